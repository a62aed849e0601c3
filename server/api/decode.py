"""Request bodies as Go decodes them into structs: the bytes of a body → a dict of checked fields.

Content-Type is ignored, keys match in any case, the last duplicate wins, nulls count as absent, unknown keys
are dropped, a wrong type is answered in Go's words. What Go would let through and we do not (depth, numbers
beyond float64, broken UTF-8) is a 400 too. Nothing here answers 500.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from server.api.gojson import GoSyntaxError, TooMany, first_value
from server.config import parse_duration
from server.errors import InvalidRequest

MAX_DEPTH = 64
MAX_ITEMS = 100_000
MAX_TWICE = 1024 * 1024
TRAILING = "unexpected content after document"
GO_KINDS = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/\r\n]")
NOT_BREAK = re.compile(rb"[^\r\n]")


@dataclass(frozen=True, slots=True)
class Where:
    """The Go struct and field path being read, for messages. ``sealed``: inside a value that Ollama decodes by
    hand; Go then names the struct around that value, however deep inside the mistake is."""

    struct: str
    path: str = ""
    sealed: bool = False

    def wrong(self, value: Any, kind: str, *, detail: str = "") -> InvalidRequest:
        what = GO_KINDS[type(value)] + detail
        if not self.path:
            return InvalidRequest(f"json: cannot unmarshal {what} into Go value of type {kind}")
        return InvalidRequest(
            f"json: cannot unmarshal {what} into Go struct field {self.struct}.{self.path} of type {kind}"
        )

    def inside(self, name: str, struct: str, *, seal: bool) -> Where:
        struct = self.struct if self.sealed else struct or self.struct
        return Where(struct, f"{self.path}.{name}" if self.path else name, self.sealed or seal)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is checked, and what the API's description says of it."""

    read: Callable[[Any, Where], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, value: Any, where: Where) -> Any:
        return self.read(value, where)


def scalar(python: type, kind: str, schema: Mapping[str, Any]) -> Kind:
    def read(value: Any, where: Where) -> Any:
        if type(value) is python:
            return value
        raise where.wrong(value, kind)

    return Kind(read, schema)


def _integer(value: Any, where: Where) -> int:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if type(value) in (int, float):
        raise where.wrong(value, "int", detail=f" {orjson.dumps(value).decode()}")
    raise where.wrong(value, "int")


def _number(value: Any, where: Where) -> float:
    if type(value) in (int, float):
        return float(value)
    raise where.wrong(value, "float64")


def _any(value: Any, where: Where) -> Any:
    return value


def _base64(value: Any, where: Where) -> bytes:
    if type(value) is not str:
        raise where.wrong(value, "api.ImageData")
    return unbase64(value)


def _keep_alive(value: Any, where: Where) -> float:
    """Seconds; negative and unimaginably long mean for ever (-1)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        kinds = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
        raise InvalidRequest(f"Unsupported type: '{kinds[type(value)]}'")
    try:
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return -1.0 if seconds < 0 or seconds > 2**63 / 1e9 else seconds


def _think(value: Any, where: Where) -> bool | str | int:
    """A number is a budget: how many tokens of thinking there may be."""
    levels = '"high", "medium", "low", "max", true, or false'
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and 0 <= value < 2**31:
        return value
    if not isinstance(value, str):
        raise InvalidRequest(f"think must be a boolean or string ({levels})")
    if value not in ("high", "medium", "low", "max"):
        raise InvalidRequest(f"invalid think value: {json.dumps(value, ensure_ascii=False)} (must be {levels})")
    return value


STRING = scalar(str, "string", {"type": "string"})
BOOL = scalar(bool, "bool", {"type": "boolean"})
OBJECT = scalar(dict, "map[string]interface {}", {"type": "object"})
INT = Kind(_integer, {"type": "integer"})
FLOAT = Kind(_number, {"type": "number"})
ANY = Kind(lambda value, where: value)
BYTES = Kind(_base64, {"type": "string", "contentEncoding": "base64"})
KEEP_ALIVE = Kind(_keep_alive, {"type": ["number", "string"], "description": "seconds, or a duration such as 5m"})
THINK = Kind(
    _think, {"anyOf": [{"enum": [True, False, "low", "medium", "high", "max"]}, {"type": "integer", "minimum": 0}]}
)


def list_of(item: Kind | Struct, kind: str, *, most: int = MAX_ITEMS) -> Kind:
    """``kind`` is Go's name of the whole slice. Nulls in it stay: in Go they are the item's zero value."""

    def read(value: Any, where: Where) -> Any:
        if type(value) is not list:
            raise where.wrong(value, kind)
        if len(value) > most:
            raise InvalidRequest(f"{where.path}: at most {most} items are accepted, not {len(value)}")
        return [None if v is None else item(v, where) for v in value]

    return Kind(read, {"type": "array", "items": dict(item.schema), "maxItems": most})


def map_of(item: Kind, kind: str) -> Kind:
    def read(value: Any, where: Where) -> Any:
        if type(value) is not dict:
            raise where.wrong(value, kind)
        return {key: item(v, where) for key, v in value.items() if v is not None}

    return Kind(read, {"type": "object", "additionalProperties": dict(item.schema)})


@dataclass(frozen=True)
class Struct:
    """A Go struct: its name, its fields' readers by JSON key, and how it is named in messages.

    ``own``: errors inside name this struct (plain nested structs) rather than the outermost one. ``by_hand``: Ollama
    decodes it by hand, ``kind`` being what Go then calls a value of it.
    """

    name: str
    fields: Mapping[str, Kind | Struct]
    kind: str = ""
    own: bool = False
    by_hand: bool = False
    lower: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lower", {key.lower(): key for key in self.fields})

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {name: dict(kind.schema) for name, kind in self.fields.items()}}

    def __call__(self, value: Any, where: Where) -> dict[str, Any]:
        if type(value) is not dict:
            raise where.wrong(value, self.kind or f"api.{self.name}")
        found: dict[str, Any] = {}
        for given, item in value.items():
            name = given if given in self.fields else self.lower.get(given.lower())
            if name is None or item is None:
                continue
            inside = where.inside(name, self.name if self.own else "", seal=self.by_hand)
            found[name] = self.fields[name](item, inside)
        return found


def decode(body: bytes, struct: Struct, *, empty: str = "missing request body") -> dict[str, Any]:
    """The fields that ``body`` gives, by their proper names. Every failure is an ``InvalidRequest``."""
    value = parse(body, empty=empty)
    if value is None:
        return {}
    if isinstance(value, dict) and _same_key_twice(value, struct):
        if len(body) > MAX_TWICE:
            raise InvalidRequest("the request spells one field in two ways; give each field once")
        value = json.loads(body, object_pairs_hook=_last_wins)
    return struct(value, Where(struct.name))


def parse(body: bytes, *, empty: str = "missing request body") -> Any:
    """The first JSON value of ``body``."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _parse_slowly(body, empty, error)
    # A body with few brackets cannot be deep: most never need the walk.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and too_deep(value):
        raise InvalidRequest(f"the request body is nested more than {MAX_DEPTH} levels deep")
    return value


def _parse_slowly(body: bytes, empty: str, error: orjson.JSONDecodeError) -> Any:
    """Go's opinion of a body that the fast parser refuses; of a very long one, the fast parser's."""
    if not body.strip(b" \t\r\n"):
        raise InvalidRequest(empty)
    try:
        value = error.doc[: error.pos].encode() if error.msg.startswith(TRAILING) else first_value(body)
        return orjson.loads(value)
    except TooMany:
        raise InvalidRequest(f"the request body is not valid JSON: {error}") from None
    except orjson.JSONDecodeError as second:
        reason = second.msg if len(value) != len(body) else error.msg
        raise InvalidRequest(f"the request body cannot be used: {reason}") from None
    except GoSyntaxError as problem:
        raise InvalidRequest(str(problem)) from None


def too_deep(value: Any, limit: int = MAX_DEPTH) -> bool:
    layer = [value]
    for _ in range(limit + 1):
        layer = [
            child
            for node in layer
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not layer:
            return False
    return True


def _same_key_twice(value: dict[str, Any], struct: Struct) -> bool:
    """Whether two spellings of one key are there: then only their order in the body says which one counts."""
    return len({key.lower() for key in value}) != len(value) and any(key.lower() in struct.lower for key in value)


def _last_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        made.pop(key, None)
        made[key] = value
    return made


def unbase64(text: str) -> bytes:
    """Standard base64, padded, as Go reads it (line breaks are skipped)."""
    plain = text.replace("\r", "").replace("\n", "") if "\n" in text or "\r" in text else text
    if len(plain) % 4 == 0 and BASE64.fullmatch(plain):
        return base64.b64decode(plain)
    raise InvalidRequest(f"illegal base64 data at input byte {_corrupt_at(text.encode('utf-8'))}")


def _corrupt_at(data: bytes) -> int:
    """Where Go's decoder stops in data that is not base64: it reads groups of four, and passes over line breaks."""
    bad = NOT_BASE64.search(data)
    if bad is None:
        return len(data) - _kept(data) % 4
    index = bad.start()
    position = _kept(data[:index])
    if bad[0] != b"=" or position % 4 < 2:
        return index
    following = NOT_BREAK.search(data, index + 1)
    if position % 4 == 2:
        if following is None:
            return len(data)
        if following[0] != b"=":
            return following.start()
        following = NOT_BREAK.search(data, following.start() + 1)
    return following.start() if following is not None else index


def _kept(data: bytes) -> int:
    return len(data) - data.count(b"\r") - data.count(b"\n")
