"""GGUF in, checkpoint out: state dict, config, tokenizer, chat template and generation config.

So a model that exists only as GGUF can be trained. Quantized tensors are decoded. The folder has its name only after
the verify gate compared it with the GGUF it was made from.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import safetensors
from converters.architectures.config import Config
from converters.architectures.registry import of_gguf
from converters.architectures.rope import FREQUENCIES, LONG, SHORT, restore_factors
from converters.architectures.table import Architecture, Tensor, filled, groups
from converters.errors import InvalidSource, OutputExists, Unsupported
from converters.gguf.encode import encode
from converters.gguf.read import Reader
from converters.gguf.vocab_to_hf import of_metadata, tokenizer_config, tokenizer_json
from converters.progress import Progress
from converters.to_gguf import SAMPLING

Array = NDArray[np.float32]
SHARD = 5_000_000_000
FACTORS = (FREQUENCIES, LONG, SHORT)
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors of the GGUF that one row of the table takes back together."""

    tensor: Tensor
    layer: str
    suffix: str
    names: tuple[str, ...]
    nbytes: int


def restore(source: Path, out: Path, progress: Progress, *, dtype: str = "", gate: bool = True) -> dict[str, Any]:
    """Writes the folder ``out``; the findings of the gate. ``dtype``: F32, F16 or BF16; default: as in the GGUF."""
    if os.path.lexists(out):
        raise OutputExists("the destination exists already; choose another name or remove it")
    partial = out.with_name(out.name + ".partial")
    partial.mkdir()
    try:
        progress.step("converting model")
        reader = Reader(source)
        row = of_gguf(reader.metadata)
        config = config_of(row, reader)
        kind = dtype or plain_type(reader)
        config["dtype"] = DTYPES[kind]
        write_weights(row, Config(config), reader, partial, kind, progress)
        write_texts(row, config, reader, partial)
        findings: dict[str, Any] = {"verified": False, "skipped": {"all": "switched off"}}
        if gate:
            from converters.verify import verify

            progress.step("verifying conversion")
            findings = verify(partial, source)
        _write_json(partial / "provenance.json", {"made_from": source.name, "gguf_architecture": row.gguf, **findings})
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return findings


def plain_type(reader: Reader) -> str:
    """The plain type of the embedding; F16 for a quantized model."""
    kind = reader.type("token_embd.weight") if "token_embd.weight" in reader else ""
    return kind if kind in DTYPES else "F16"


def config_of(row: Architecture, reader: Reader) -> dict[str, Any]:
    """config.json, from keys and from which tensors there are."""
    for name in list(reader):
        if name.startswith("blk."):
            reader.metadata.add("llamada.has." + name.split(".", 2)[2], "bool", True)
    found = row.to_config(reader.metadata)
    if row.generates:
        found["tie_word_embeddings"] = "output.weight" not in reader
    has = reader.metadata.get
    if has("llamada.has.attn_q.weight") and row.generates:
        found.setdefault("attention_bias", bool(has("llamada.has.attn_q.bias")))
        found.setdefault("mlp_bias", bool(has("llamada.has.ffn_up.bias")))
    restore_factors(found, {name: reader.read(name) for name in FACTORS if name in reader})
    for role in ("bos", "eos", "pad"):
        key = {"pad": "padding"}.get(role, role)
        token = has(f"tokenizer.ggml.{key}_token_id")
        if token is not None:
            found.setdefault(f"{role}_token_id", token)
    return found


def grouped(row: Architecture, reader: Reader) -> list[Group]:
    """Every tensor of the GGUF in its group. Unsupported for one that has no place in the checkpoint."""
    found: dict[tuple[int, str, str], Group] = {}
    for name in reader:
        if name in FACTORS:
            continue
        hit = row.find_gguf(name)
        if hit is None:
            raise Unsupported(f'the tensor "{name}" has no place in a checkpoint of {row.classes[0]}')
        tensor, (layer, suffix, _) = _chosen(row, hit[0], reader), groups(hit[1])
        names = tuple(filled(target, layer, suffix) for target in tensor.names)
        if missing := [target for target in names if target not in reader]:
            raise InvalidSource(f'the tensor "{missing[0]}" is missing')
        key = (row.tensors.index(tensor), layer, suffix)
        found[key] = Group(tensor, layer, suffix, names, sum(map(reader.nbytes, names)))
    return list(found.values())


def _chosen(row: Architecture, tensor: Tensor, reader: Reader) -> Tensor:
    """Where two names of checkpoints stand for one of GGUF (Falcon), the one with its companion."""
    others = [t for t in row.tensors if t.gguf == tensor.gguf]
    if len(others) > 1 and reader.metadata.get("llamada.has.attn_norm_2.weight"):
        return others[1]
    return tensor


def restored(row: Architecture, config: Config, reader: Reader, group: Group) -> Iterator[tuple[str, Array]]:
    """(name in the checkpoint, values) of a group."""
    tensor = group.tensor
    arrays = tensor.step.restore([reader.read(name) for name in group.names], config)
    for expert, array in enumerate(arrays):
        yield filled(tensor.hf, group.layer, group.suffix, expert), array


def write_weights(
    row: Architecture, config: Config, reader: Reader, folder: Path, kind: str, progress: Progress
) -> None:
    shards = _shards(grouped(row, reader))
    total = sum(group.nbytes for shard in shards for group in shard)
    places: dict[str, str] = {}
    size = done = 0
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"

        def entries(shard: list[Group] = shard) -> Iterator[tuple[str, str, NDArray[Any]]]:
            nonlocal done
            for group in shard:
                for tensor, array in restored(row, config, reader, group):
                    yield tensor, kind, _as(array, kind)
                done += group.nbytes
                progress(done, total + 1)

        written = safetensors.write(folder / name, entries())
        places |= dict.fromkeys(written, name)
        size += sum(written.values())
    if len(shards) > 1:
        _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})
    progress(total + 1, total + 1)


def _shards(all_groups: list[Group]) -> list[list[Group]]:
    made: list[list[Group]] = [[]]
    size = 0
    for group in all_groups:
        if size + group.nbytes > SHARD and made[-1]:
            made.append([])
            size = 0
        made[-1].append(group)
        size += group.nbytes
    return made


def _as(array: Array, kind: str) -> NDArray[Any]:
    codes = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    return np.frombuffer(encode(array, kind), codes[kind]).reshape(array.shape)


def write_texts(row: Architecture, config: dict[str, Any], reader: Reader, folder: Path) -> None:
    """Everything but the weights."""
    vocabulary = of_metadata(reader.metadata)
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer.json", tokenizer_json(vocabulary))
    context = config.get("max_position_embeddings") or config.get("n_positions") or 2048
    _write_json(folder / "tokenizer_config.json", tokenizer_config(vocabulary, context))
    if template := vocabulary.templates.get("default"):
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    if row.generates:
        _write_json(folder / "generation_config.json", generation_config(reader, vocabulary.special))
    else:
        write_pooling(row, config, reader, folder)


def generation_config(reader: Reader, special: dict[str, int]) -> dict[str, Any]:
    ends = list(dict.fromkeys(special[role] for role in ("eos", "eot", "eom") if role in special))
    made: dict[str, Any] = {"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}
    made |= {f"{role}_token_id": special[role] for role in ("bos", "pad") if role in special}
    sampling = {name: reader.metadata.get(f"general.sampling.{key}") for name, key in SAMPLING.items()}
    if given := {name: value for name, value in sampling.items() if value is not None}:
        made |= {"do_sample": True, **given}
    return made


def write_pooling(row: Architecture, config: dict[str, Any], reader: Reader, folder: Path) -> None:
    """The two files by which sentence-transformers knows how vectors are pooled."""
    from converters.pooling import modules, pooling_config

    kind = reader.metadata.get(f"{row.gguf}.pooling_type")
    if kind not in (1, 2, 3):
        return
    _write_json(folder / "modules.json", modules())
    (folder / "1_Pooling").mkdir()
    _write_json(folder / "1_Pooling/config.json", pooling_config(kind, config["hidden_size"]))


def _write_json(path: Path, content: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=None if path.name == "tokenizer.json" else 2)
        file.flush()
        os.fsync(file.fileno())
