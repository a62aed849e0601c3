"""A PEFT LoRA folder → a GGUF adapter for a GGUF model, so that it can be loaded beside its base.

What a LoRA in GGUF cannot say (DoRA's magnitudes, whole trained matrices, biases) is refused by name. Scales: llama.cpp
computes alpha / rank; rank-stabilized and per-module scales are brought into that form.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.architectures.config import Config
from converters.architectures.registry import of_gguf
from converters.architectures.steps import Keep, Regroup, Rotate, Stack, Step, Transpose
from converters.architectures.table import Architecture, filled, groups
from converters.checkpoint import ADAPTER_CONFIG, read_json
from converters.errors import InvalidSource, OutputExists, Unsupported
from converters.from_gguf import config_of
from converters.gguf.encode import encode
from converters.gguf.metadata import Metadata
from converters.gguf.read import Reader
from converters.gguf.write import Planned, write
from converters.progress import Progress
from converters.safetensors import StoredTensor, read_header

Array = NDArray[np.float32]
WEIGHTS = "adapter_model.safetensors"
PART = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.default)?\.weight")
MERGE = "merge it into its model with peft's merge_and_unload() and convert that"


@dataclass(frozen=True, slots=True)
class Pair:
    """``a`` (rank, in) and ``b`` (out, rank) of one module."""

    a: StoredTensor
    b: StoredTensor


def convert(source: Path, base: Path, out: Path, progress: Progress) -> dict[str, Any]:
    """Writes the adapter ``out``; what the check on its base found."""
    if os.path.lexists(out):
        raise OutputExists("the destination exists already; choose another name or remove it")
    progress.step("converting adapter")
    settings, pairs = read_adapter(source)
    reader = Reader(base)
    row = of_gguf(reader.metadata)
    config = Config(config_of(row, reader))
    alpha = float(settings["lora_alpha"])
    tensors = dict(adapter_tensors(row, config, settings, pairs))
    check_fits(tensors, reader)
    partial = out.with_name(out.name + ".partial")
    try:
        metadata = Metadata()
        keys = {"general.architecture": row.gguf, "general.type": "adapter", "general.file_type": 0}
        for key, value in {**keys, "adapter.type": "lora", "adapter.lora.alpha": alpha}.items():
            metadata.add_plain(key, value)
        write(partial, metadata, [_planned(name, array) for name, array in tensors.items()], progress)
        progress.step("verifying conversion")
        from converters.verify import verify_adapter

        findings = verify_adapter(base, partial)
        os.rename(partial, out)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    return findings


def _planned(name: str, array: Array) -> Planned:
    return Planned(name, array.shape, "F32", lambda: iter([encode(array, "F32")]))


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Pair]]:
    """The settings, and the pairs by module of the base."""
    settings = read_json(folder / ADAPTER_CONFIG)
    refuse(settings)
    if not (folder / WEIGHTS).is_file():
        raise InvalidSource(f"{WEIGHTS} is missing from the adapter")
    halves: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in read_header(folder / WEIGHTS).items():
        match = PART.fullmatch(name)
        if match is None:
            raise Unsupported(f'the adapter holds "{name}", which a GGUF adapter cannot; {MERGE}')
        halves.setdefault(match["module"], {})[match["part"]] = tensor
    for module, parts in halves.items():
        if set(parts) != {"A", "B"} or parts["A"].shape[0] != parts["B"].shape[-1]:
            raise InvalidSource(f"the matrices A and B of {module} do not belong together")
    if not halves:
        raise InvalidSource("the adapter holds no matrices")
    return settings, {module: Pair(parts["A"], parts["B"]) for module, parts in halves.items()}


def refuse(settings: Mapping[str, Any]) -> None:
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise Unsupported(f'adapters of the kind "{str(kind)[:40]}" cannot be written as GGUF; {MERGE}')
    if settings.get("use_dora"):
        raise Unsupported(f"DoRA adapters cannot be written as GGUF: there is no place for their magnitudes; {MERGE}")
    if settings.get("modules_to_save"):
        raise Unsupported(f"the adapter comes with whole trained modules (modules_to_save); {MERGE}")
    if settings.get("bias", "none") != "none":
        raise Unsupported(f"the adapter trained biases; {MERGE}")
    if not isinstance(settings.get("lora_alpha"), int | float):
        raise InvalidSource(f"{ADAPTER_CONFIG} has no lora_alpha")


def scale_of(settings: Mapping[str, Any], module: str, rank: int) -> float:
    """What peft multiplies B·A with."""
    alpha = float(_by_pattern(settings.get("alpha_pattern"), module, settings["lora_alpha"]))
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _by_pattern(patterns: Any, module: str, default: Any) -> Any:
    """peft's rule: the first pattern that matches the end of the module's name."""
    for pattern, value in (patterns or {}).items():
        if module == pattern or module.endswith("." + pattern) or re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def adapter_tensors(
    row: Architecture, config: Config, settings: Mapping[str, Any], pairs: Mapping[str, Pair]
) -> Iterator[tuple[str, Array]]:
    """(name, values) of the adapter: ``<tensor>.lora_a`` and ``<tensor>.lora_b``."""
    stacks: dict[tuple[str, str], dict[int, tuple[Array, Array]]] = {}
    for module, pair in pairs.items():
        own = row.own_name(f"{module}.weight")
        hit = row.find(own) if own else None
        if hit is None or len(hit[0].names) > 1:
            raise Unsupported(f"{module} has no single matrix in a GGUF of this architecture; {MERGE}")
        layer, suffix, expert = groups(hit[1])
        target = filled(hit[0].names[0], layer, suffix)
        rank = pair.a.shape[0]
        folded = scale_of(settings, module, rank) * rank / float(settings["lora_alpha"])
        a, b = pair.a.read(), pair.b.read() * np.float32(folded)
        if isinstance(hit[0].step, Stack):
            stacks.setdefault((target, hit[0].hf), {})[expert] = (a, b)
            continue
        yield f"{target}.lora_a", a
        yield f"{target}.lora_b", rows_as_in_gguf(hit[0].step, b, config, module)
    for (target, _), experts in stacks.items():
        if sorted(experts) != list(range(config.experts)):
            raise Unsupported(f"the adapter trains only some of the experts of {target}; {MERGE}")
        for number, part in enumerate(("lora_a", "lora_b")):
            yield f"{target}.{part}", np.stack([experts[index][number] for index in range(len(experts))])


@dataclass(frozen=True, slots=True)
class InMemory:
    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        return self.array[start:stop]


def rows_as_in_gguf(step: Step, b: Array, config: Config, module: str) -> Array:
    """B has the rows of the matrix: what orders those orders these. A has its columns, which nothing touches."""
    if isinstance(step, Keep | Transpose):  # peft's A and B are (rank, in) and (out, rank) for Conv1D too
        return b
    if isinstance(step, Rotate | Regroup):
        (output,) = step.outputs([InMemory(b)], config)
        return np.concatenate(list(output.pieces()))
    raise Unsupported(f"{module} is stored in another form in GGUF; {MERGE}")


def check_fits(tensors: Mapping[str, Array], reader: Reader) -> None:
    for name, array in tensors.items():
        target, _, part = name.rpartition(".")
        if target not in reader:
            raise InvalidSource(f'the adapter is for another model: this one has no tensor "{target}"')
        shape = reader.shape(target)
        if array.shape[-1 if part == "lora_a" else -2] != shape[-1 if part == "lora_a" else -2]:
            raise InvalidSource(f'the adapter is for another model: "{target}" has the shape {shape} here')
