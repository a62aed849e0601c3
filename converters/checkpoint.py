"""A checkpoint: a Hugging Face folder with ``config.json``, ``*.safetensors`` and a tokenizer.

Opening one reads JSON and tensor headers only. Pickles are never read and code of a checkpoint never runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.dequant.stored import Stored
from converters.errors import InvalidSource, Unsupported
from converters.safetensors import StoredTensor, read_header

MAX_JSON = 256 * 2**20
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
PICKLES = ("pytorch_model*.bin", "consolidated*.pth", "*.pt", "*.ckpt")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``tensors`` by name, from all shards; ``config`` as it is in the file."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """InvalidSource for what is missing or damaged."""
        config = read_json(folder / CONFIG)
        return cls(folder, config, read_tensors(folder))

    @property
    def class_name(self) -> str:
        """``LlamaForCausalLM`` …: the first of ``architectures``."""
        names = self.config.get("architectures")
        if isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
        raise InvalidSource('config.json names no architecture: add its class name as "architectures": ["…"]')

    def optional_json(self, name: str) -> dict[str, Any]:
        """The object in a file of the folder, {} where there is none."""
        return read_json(self.folder / name) if (self.folder / name).is_file() else {}

    def text(self, name: str) -> str | None:
        path = self.folder / name
        return _read(path).decode("utf-8", "replace") if path.is_file() else None

    def first_layers(self, count: int) -> Checkpoint:
        """The same model with its first ``count`` layers only."""
        changed = shortened(self.config, count)
        kept = {name: tensor for name, tensor in self.tensors.items() if (layer_of(name) or 0) < count}
        return replace(self, config=changed, tensors=kept)


def shortened(config: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The settings of the same model with its first layers only; nested parts too."""
    changed: dict[str, Any] = {
        name: shortened(value, count) if isinstance(value, dict) else value for name, value in config.items()
    }
    for name in ("num_hidden_layers", "n_layer"):
        if isinstance(changed.get(name), int):
            changed[name] = min(changed[name], count)
    for name in ("layer_types", "no_rope_layers"):
        if isinstance(changed.get(name), list):
            changed[name] = changed[name][:count]
    return changed


def layer_of(name: str) -> int | None:
    """The first number among the parts of a tensor's name."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(path))
    except (ValueError, RecursionError):
        raise InvalidSource(f"{path.name} is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidSource(f"{path.name} holds no object")
    return found


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_JSON:
            raise InvalidSource(f"{path.name} is over {MAX_JSON} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise InvalidSource(f"{path.name} is missing from the checkpoint") from None
    except OSError as error:
        raise InvalidSource(f"cannot read {path.name}: {(error.strerror or 'input/output error').lower()}") from error


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's shards. InvalidSource when a shard is missing or a name is there twice."""
    paths = shards(folder)
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        for name, tensor in read_header(path).items():
            if name in tensors:
                raise InvalidSource(f'tensor "{name}" is in {tensors[name].path.name} and in {path.name}')
            tensors[name] = tensor
    if (folder / INDEX).is_file():
        _check_index(read_json(folder / INDEX), tensors, {path.name for path in paths})
    if not tensors:
        raise InvalidSource("the safetensors files hold no tensors")
    return tensors


def shards(folder: Path) -> list[Path]:
    """``model*.safetensors`` if there are any, else all (a folder may hold the same weights in two layouts)."""
    found = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter"))
    usual = [path for path in found if path.name.startswith("model")]
    if usual or found:
        return usual or found
    if any(next(folder.glob(pattern), None) for pattern in PICKLES):
        raise Unsupported(
            "the checkpoint holds pickled weights, which can run code and are never read; load it where you trust it "
            "and save it with save_pretrained(folder, safe_serialization=True)"
        )
    raise InvalidSource("no .safetensors files in the checkpoint")


def _check_index(index: Mapping[str, Any], tensors: Mapping[str, StoredTensor], shard_names: set[str]) -> None:
    places = index.get("weight_map")
    if not isinstance(places, dict):
        raise InvalidSource(f"{INDEX} has no weight_map")
    if absent := sorted({str(shard) for shard in places.values()} - shard_names):
        raise InvalidSource(f"the shard {absent[0]} is missing from the checkpoint ({len(absent)} in all)")
    if lost := sorted(set(places) - set(tensors)):
        raise InvalidSource(f'tensor "{lost[0]}" is in none of the shards ({len(lost)} in all)')
