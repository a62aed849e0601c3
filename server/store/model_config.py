"""A model's config blob: what create wrote down so that a listing need not open the weights.

Field order and omitted fields are Ollama's. Foreign fields are ignored; a known field of the wrong type makes the
whole blob a StoreError, for it was not written by anything that we could trust.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from server.errors import StoreError
from server.store import gojson

MAX_BYTES = 4 * 1024 * 1024
ALWAYS = ("model_format", "model_family", "model_families", "model_type", "file_type")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The order of the fields is the order in the file."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] = ()
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""
    draft: dict[str, Any] | None = None

    @property
    def remote(self) -> bool:
        return bool(self.remote_host or self.remote_model)


FIELDS = {f.name: f.type for f in dataclasses.fields(ModelConfig)}


def parse(data: bytes) -> ModelConfig:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        raise StoreError("the model's config is not JSON") from None
    if not isinstance(raw, dict):
        raise StoreError("the model's config is not an object")
    return ModelConfig(**{name: _value(name, raw[name]) for name in FIELDS if raw.get(name) is not None})


def _value(name: str, value: Any) -> Any:
    match FIELDS[name]:
        case "str":
            good = isinstance(value, str)
        case "int":
            good = isinstance(value, int) and not isinstance(value, bool)
        case "tuple[str, ...]":
            good = isinstance(value, list) and all(isinstance(item, str) for item in value)
        case _:
            good = isinstance(value, dict)
    if not good:
        raise StoreError(f"the model's config has a {name} of the wrong type")
    return tuple(value) if isinstance(value, list) else value


def encode(config: ModelConfig) -> bytes:
    """The bytes that Ollama would write."""
    raw: dict[str, Any] = {}
    for name in FIELDS:
        value = getattr(config, name)
        if name in ALWAYS or value:
            raw[name] = list(value) if isinstance(value, tuple) else value
    raw["model_families"] = raw["model_families"] or None
    return (gojson.dumps({**raw, "architecture": "amd64", "os": "linux"}) + "\n").encode()
