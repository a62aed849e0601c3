"""What crosses the boundary between the server and a worker: named records in length-prefixed frames.

A frame is ``<u32 total><u32 header>`` (little endian, ``total`` counts what follows it), a JSON header and the
raw attachments behind it. Every ``bytes`` value in a record becomes ``{"$": index}`` in the header and an
attachment; sizes of attachments are in the header's ``"@"``. Both ends can be tested alone: ``encode`` and
``decode`` are pure.
"""

from __future__ import annotations

import struct
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import orjson

from server.types import Chunk, Embeddings, Generation, Loaded, LoadOptions, RunnerStats

MAX_FRAME = 512 * 1024 * 1024
PREFIX = struct.Struct("<II")


# -- server → worker ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """Put this model into memory. Sent once, first.

    ``cache_dir``/``cache_key``: where prefixes are kept over an unload, and the secret that seals them (empty =
    nowhere). ``vocab_only``: tokenizer and template but no weights. ``parts``: the further files of split weights.
    """

    weights: str
    options: LoadOptions
    adapters: tuple[str, ...] = ()
    projectors: tuple[str, ...] = ()
    draft: str = ""
    cache_dir: str = ""
    cache_key: str = ""
    vocab_only: bool = False
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generate:
    id: int
    generation: Generation


@dataclass(frozen=True, slots=True)
class Embed:
    """``num_ctx`` bounds one input; ``dimensions`` 0 = all."""

    id: int
    inputs: tuple[str, ...]
    truncate: bool = True
    dimensions: int = 0
    normalize: bool = True
    num_ctx: int = 0


@dataclass(frozen=True, slots=True)
class Tokenize:
    id: int
    text: str
    add_special: bool = True
    parse_special: bool = True


@dataclass(frozen=True, slots=True)
class Detokenize:
    id: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Abort:
    id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Answered by the engine loop itself, between two steps."""

    id: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Leave after saving the prefixes worth keeping (``save``)."""

    save: bool = True


# -- worker → server ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loading:
    """``fraction`` 0…1 of the weights are in memory."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Ready:
    loaded: Loaded


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """``kind``: "memory" (may fit elsewhere or smaller) or "model" (this file will never load)."""

    kind: Literal["memory", "model"]
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """One engine step: the new chunk of every sequence that has one."""

    chunks: tuple[tuple[int, Chunk], ...]


@dataclass(frozen=True, slots=True)
class Embedded:
    id: int
    embeddings: Embeddings


@dataclass(frozen=True, slots=True)
class Tokens:
    id: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Text:
    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Request ``id`` ended with an error. ``kind``: "invalid" (400), "unsupported" (400), "internal" (500)."""

    id: int
    kind: Literal["invalid", "unsupported", "internal"]
    message: str


@dataclass(frozen=True, slots=True)
class Pong:
    id: int
    stats: RunnerStats


@dataclass(frozen=True, slots=True)
class Warn:
    """Something the operator should read: goes to the server's log at WARN."""

    message: str


ToWorker = Load | Generate | Embed | Tokenize | Detokenize | Abort | Ping | Shutdown
ToServer = Loading | Ready | LoadFailed | Step | Embedded | Tokens | Text | Failed | Pong | Warn
Record = ToWorker | ToServer

KINDS: dict[str, type[Any]] = {c.__name__: c for c in (*get_args(ToWorker), *get_args(ToServer))}


# -- frames ---------------------------------------------------------------------------------------------


def encode(record: Record) -> bytes:
    """One whole frame."""
    attachments: list[bytes] = []

    def default(value: object) -> object:
        if isinstance(value, bytes):
            attachments.append(value)
            return {"$": len(attachments) - 1}
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(f"{type(value).__name__} cannot cross the channel")

    body = orjson.dumps(record, default=default, option=orjson.OPT_NON_STR_KEYS)
    head: dict[str, Any] = {"t": type(record).__name__, "r": orjson.Fragment(body)}
    if attachments:
        head["@"] = [len(a) for a in attachments]
    header = orjson.dumps(head)
    total = 4 + len(header) + sum(map(len, attachments))
    if total > MAX_FRAME:
        raise ValueError(f"a frame of {total} bytes is over the limit of {MAX_FRAME}")
    return b"".join((PREFIX.pack(total, len(header)), header, *attachments))


def decode(frame: bytes | memoryview) -> Record:
    """The record of a frame without its first four bytes (``total``). ValueError on anything malformed."""
    view = memoryview(frame)
    try:
        (size,) = struct.unpack_from("<I", view)
        head = orjson.loads(view[4 : 4 + size])
        attachments: list[bytes] = []
        at = 4 + size
        for length in head.get("@", ()):
            attachments.append(bytes(view[at : at + length]))
            at += length
        record: Record = _reader(KINDS[head["t"]])(head["r"], attachments)
        return record
    except (KeyError, TypeError, IndexError, struct.error, orjson.JSONDecodeError) as error:
        raise ValueError(f"malformed frame: {error!r}") from error


Reader = Callable[[Any, list[bytes]], Any]


def _reader(kind: Any) -> Reader:
    return _cached_reader(kind)


@cache
def _cached_reader(kind: Any) -> Reader:
    """A function that rebuilds a value of ``kind`` from its JSON form."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is bytes:
        return lambda value, attachments: attachments[value["$"]]
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass_reader(kind)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        item = _reader(args[0])
        return lambda value, attachments: tuple(item(v, attachments) for v in value)
    if origin is tuple:
        items = [_reader(a) for a in args]
        return lambda value, attachments: tuple(r(v, attachments) for r, v in zip(items, value, strict=True))
    if origin in (Union, types.UnionType):
        return _union_reader(args)
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        key: Callable[[Any], Any] = int if args[0] is int else str
        return lambda value, attachments: {key(k): v for k, v in value.items()}
    if kind is float:
        return lambda value, attachments: float(value)
    return lambda value, attachments: value


def _dataclass_reader(kind: Any) -> Reader:
    readers: list[tuple[str, Reader]] = []  # filled at first use: a record may hold records of its own kind

    def read(value: Any, attachments: list[bytes]) -> Any:
        if not readers:
            hints = typing.get_type_hints(kind)
            readers.extend((f.name, _reader(hints[f.name])) for f in fields(kind))
        return kind(**{name: r(value[name], attachments) for name, r in readers if name in value})

    return read


def _union_reader(args: tuple[Any, ...]) -> Reader:
    """Unions hold at most one shape per JSON kind, or dataclasses told apart by their fields."""
    records = [a for a in args if is_dataclass(a)]
    names = {frozenset(f.name for f in fields(a)): _reader(a) for a in records}

    def read(value: Any, attachments: list[bytes]) -> Any:
        if records and isinstance(value, dict):
            return names[frozenset(value)](value, attachments)
        return value

    return read
