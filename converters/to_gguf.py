"""Checkpoint in, GGUF out: streamed from safetensors to the final types, with no intermediate file.

The result has its name only after the verify gate (``converters.verify``) let it through; its findings are in the
file, under ``llamada.verification``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import pooling
from converters.architectures.config import Config
from converters.architectures.registry import of_class
from converters.architectures.steps import Output, once
from converters.architectures.table import Architecture, Tensor, filled, groups
from converters.checkpoint import Checkpoint, layer_of
from converters.dequant import for_checkpoint
from converters.errors import InvalidSource, OutputExists, Unsupported
from converters.gguf import types
from converters.gguf.encode import encode
from converters.gguf.find_pre import find_pre
from converters.gguf.metadata import Metadata
from converters.gguf.vocab import Vocabulary, read_checkpoint
from converters.gguf.write import Planned, patch, write
from converters.progress import Progress

VERIFICATION = "llamada.verification"
ROOM = 2048
SAMPLING = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
            "repetition_penalty": "penalty_repeat"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """Everything of the file to be but the types of its tensors."""

    row: Architecture
    config: Config
    metadata: Metadata
    outputs: dict[str, Output]


def convert(source: Path, out: Path, type_name: str, progress: Progress, *, name: str = "", gate: bool = True
            ) -> dict[str, Any]:  # fmt: skip
    """Writes ``out``; the findings of the gate. OutputExists, InvalidSource, Unsupported, VerificationFailed …"""
    from converters.gguf.quantize import type_named

    wanted = type_named(type_name)
    if os.path.lexists(out):
        raise OutputExists("the destination exists already; choose another name or remove it")
    checkpoint = Checkpoint.open(source)
    partial = out.with_name(out.name + ".partial")
    try:
        progress.step("converting model")
        model = plan_safely(checkpoint, name or source.resolve().name)
        places = write_model(model, partial, wanted, progress)
        findings: dict[str, Any] = {"verified": False, "skipped": {"all": "switched off"}}
        if gate:
            from converters.verify import verify

            progress.step("verifying conversion")
            findings = verify(checkpoint.folder, partial)
        findings |= notes(model)
        patch(partial, places[VERIFICATION], VERIFICATION, json.dumps(findings, ensure_ascii=False), ROOM)
        os.rename(partial, out)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    return findings


def plan_safely(checkpoint: Checkpoint, name: str) -> Model:
    """``plan``; files whose content has another shape than anybody could mean are the checkpoint's fault."""
    try:
        return plan(checkpoint, name)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidSource(
            f"config.json, the tokenizer's files or the weights are damaged: {type(error).__name__}: {str(error)[:200]}"
        ) from error


def notes(model: Model) -> dict[str, str]:
    """What no check on short texts can show."""
    window, context = model.config.get("sliding_window"), model.config.get("max_position_embeddings")
    if model.row.windowless and isinstance(window, int) and isinstance(context, int) and window < context:
        return {
            "note": f"llama.cpp attends beyond the sliding window of {window}; longer texts differ from the original"
        }
    return {}


def plan(checkpoint: Checkpoint, name: str) -> Model:
    """All that is known before a weight is read."""
    checkpoint = made_plain(checkpoint)
    row, config = of_class(checkpoint.class_name), Config(checkpoint.config)
    row.check(config)
    outputs = outputs_of(row, config, checkpoint)
    if row.rope:
        for key, factors in row.rope.tensors(config).items():
            outputs[key] = _constant(factors)
    metadata = Metadata()
    metadata.add_plain("general.architecture", row.gguf)
    metadata.add_plain("general.type", "model")
    metadata.add_plain("general.name", tame(name))
    row.add_keys(config, metadata)
    if not row.generates and f"{row.gguf}.pooling_type" not in metadata:
        metadata.add_plain(f"{row.gguf}.pooling_type", pooling.of_checkpoint(checkpoint))
    _tokenizer(checkpoint, outputs["token_embd.weight"].shape[0]).add_to(metadata)
    add_sampling(checkpoint.optional_json("generation_config.json"), metadata)
    metadata.add_plain("llamada.source.class", checkpoint.class_name)
    metadata.add_plain(VERIFICATION, " " * ROOM)
    return Model(row, config, metadata, outputs)


def made_plain(checkpoint: Checkpoint) -> Checkpoint:
    """One whose linears are quantized (GPTQ, AWQ, FP8 …) reads as if they were not. Unsupported, by name."""
    dequantizer = for_checkpoint(checkpoint.config)
    if dequantizer is None:
        return checkpoint
    config = {name: value for name, value in checkpoint.config.items() if name != "quantization_config"}
    return replace(checkpoint, config=config, tensors=dequantizer.plain(checkpoint.tensors))


def tame(name: str) -> str:
    """llama.cpp looks for special tokens by name in models that are called phi-3, and fails if there are none."""
    return re.sub(r"(?i)phi-?3", "phi 3", name)[:200] or "model"


def outputs_of(row: Architecture, config: Config, checkpoint: Checkpoint) -> dict[str, Output]:
    """The tensors of the GGUF by name, in the order of the layers; nothing of the checkpoint may be left over."""
    made: dict[str, Output] = {}
    for tensor, layer, suffix, names in grouped(row, config, checkpoint):
        sources = [checkpoint.tensors[name] for name in names]
        for target, output in zip(tensor.names, tensor.step.outputs(sources, config), strict=True):
            made[filled(target, layer, suffix)] = output
    if "token_embd.weight" not in made:
        raise InvalidSource("the checkpoint has no token embedding: a shard is missing, or it is only part of a model")
    _check_layers(row, config, made)
    return dict(sorted(made.items(), key=lambda item: -1 if (at := layer_of(item[0])) is None else at))


def grouped(row: Architecture, config: Config, checkpoint: Checkpoint) -> Iterator[tuple[Tensor, str, str, list[str]]]:
    """(row, layer, suffix, names of the checkpoint, experts in order)"""
    found: dict[tuple[int, str, str], dict[int, str]] = {}
    unknown: list[str] = []
    tied = bool(config.get("tie_word_embeddings", row.tied))
    for name in checkpoint.tensors:
        own = row.own_name(name)
        if own is None or (tied and own.startswith("lm_head.")) or (row.extra_layers and _behind(own, config)):
            continue
        hit = row.find(own)
        if hit is None:
            unknown.append(name)
            continue
        layer, suffix, expert = groups(hit[1])
        found.setdefault((row.tensors.index(hit[0]), layer, suffix), {})[expert] = name
    if unknown:
        raise Unsupported(
            f'{len(unknown)} tensors have no place in a GGUF of this architecture, the first is "{min(unknown)}"; '
            "merge adapters and remove extra heads before converting"
        )
    for (index, layer, suffix), experts in found.items():
        tensor = row.tensors[index]
        if sorted(experts) != list(range(len(experts))):
            raise InvalidSource(f'layer {layer}: the numbers of "{tensor.hf}" have gaps; a shard is missing')
        yield tensor, layer, suffix, [experts[number] for number in range(len(experts))]


def _behind(name: str, config: Config) -> bool:
    layer = layer_of(name)
    return layer is not None and layer >= config.layers


def _check_layers(row: Architecture, config: Config, made: Iterable[str]) -> None:
    numbers = {layer for name in made if name.startswith("blk.") and (layer := layer_of(name)) is not None}
    if numbers != set(range(config.layers)):
        raise InvalidSource(
            f"config.json says {config.layers} layers, the weights have {len(numbers)}; a shard is missing"
        )


def _constant(values: NDArray[np.float32]) -> Output:
    return once(values.shape, lambda: values)


def _tokenizer(checkpoint: Checkpoint, rows: int) -> Vocabulary:
    vocabulary = read_checkpoint(checkpoint)
    if vocabulary.model == "gpt2":
        vocabulary.pre = find_pre(vocabulary, checkpoint.optional_json("tokenizer.json"))
    vocabulary.pad_to(rows)
    return vocabulary


def add_sampling(generation: Mapping[str, Any], metadata: Metadata) -> None:
    """What generation_config.json recommends, under llama.cpp's names."""
    if not generation.get("do_sample"):
        return
    for name, key in SAMPLING.items():
        value = generation.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            kind = "i32" if key == "top_k" else "f32"
            metadata.add(f"general.sampling.{key}", kind, value, name)


def write_model(model: Model, path: Path, wanted: str, progress: Progress) -> dict[str, int]:
    def planned(name: str, output: Output, kind: str) -> Planned:
        return Planned(name, output.shape, kind, lambda: (encode(piece, kind) for piece in output.pieces()))

    sketch = [planned(name, output, "F32") for name, output in model.outputs.items()]
    model.metadata.add("general.file_type", "u32", types.FTYPES[wanted])
    kinds = types.choose(path, model.metadata, sketch, wanted)
    tensors = [planned(name, output, kinds[name]) for name, output in model.outputs.items()]
    return write(path, model.metadata, tensors, progress)
