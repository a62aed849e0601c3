"""The layers of a model that is being created: taken over from a base, replaced, appended, in Ollama's order.

Each layer remembers the progress line that it is announced with. Blobs are pinned by whoever owns the list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelfiles.gguf import Header
from server.errors import ServerError
from server.store import gojson
from server.store.blobs import Blobs
from server.store.digests import Digest
from server.store.manifests import LAYER_TYPE, Layer


@dataclass(frozen=True, slots=True)
class Part:
    """``fresh``: uploaded by the client, not yet checked by llama.cpp. ``header``: of GGUF layers."""

    layer: Layer
    status: str = ""
    header: Header | None = None
    fresh: bool = False


def status_of(digest: Digest, created: bool) -> str:
    return f"{'creating new' if created else 'using existing'} layer {digest}"


def new_part(blobs: Blobs, kind: str, data: bytes, status: str = "") -> Part:
    """A small layer whose content is made here."""
    digest, created = blobs.add_bytes(data)
    return Part(Layer(LAYER_TYPE + kind, digest, len(data)), status or status_of(digest, created))


def taken_over(layer: Layer, base: str) -> Part:
    """A layer of the model ``base``."""
    return Part(dataclasses.replace(layer, source=base), status_of(layer.digest, created=False))


def without(parts: Iterable[Part], *kinds: str) -> list[Part]:
    return [part for part in parts if part.layer.kind not in kinds]


def of_kind(parts: Iterable[Part], kind: str) -> list[Part]:
    return [part for part in parts if part.layer.kind == kind]


def licenses(given: Any) -> list[str]:
    """The texts of a request's ``license``: a string or a list of strings. Ollama's errors, status 500."""
    if given is None or given == "":
        return []
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise ServerError(f"json: cannot unmarshal {_go_kind(given)} into Go value of type []string")
    for item in given:
        if not isinstance(item, str):
            raise ServerError(f"json: cannot unmarshal {_go_kind(item)} into Go value of type string")
    return given


def _go_kind(value: Any) -> str:
    kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def parameters(inherited: Mapping[str, Any], given: Mapping[str, Any]) -> bytes:
    """The params layer: the request wins, a null removes. Empty bytes when nothing is left."""
    merged = {name: value for name, value in {**inherited, **given}.items() if value is not None}
    return (gojson.dumps(merged, sort_keys=True) + "\n").encode() if merged else b""


def messages(given: Iterable[Mapping[str, Any]]) -> bytes:
    return (gojson.dumps([dict(message) for message in given]) + "\n").encode()
