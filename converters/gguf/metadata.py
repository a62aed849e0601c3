"""The key-value pairs of a GGUF, typed, in order. Values are checked against their type when they are added."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from converters.errors import InvalidSource
from modelfiles.gguf import GGUFArray, Header
from modelfiles.gguf_types import ARRAY, SCALARS, STRING

NUMBERS = {name: number for number, (name, _) in SCALARS.items()}
CODES = dict(SCALARS.values())
INTEGERS = frozenset({"u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"})


class Metadata:
    """``add(key, kind, value)``: kind is ``u32``, ``f32``, ``bool``, ``string`` …; a list makes an array of it."""

    def __init__(self) -> None:
        self._pairs: dict[str, tuple[str, Any]] = {}

    @classmethod
    def of(cls, header: Header) -> Metadata:
        """Those of a file; its arrays are read now."""
        made = cls()
        for key, value in header.metadata.items():
            if isinstance(value, GGUFArray):
                made._pairs[key] = (value.type, value.values())
            else:
                made._pairs[key] = (header.types[key], value)
        return made

    def add(self, key: str, kind: str, value: Any, said: str = "") -> None:
        """``said``: what the value is called where it comes from, for the error."""
        many = isinstance(value, list | tuple | np.ndarray)
        good = [_checked(kind, item, said or key) for item in value] if many else _checked(kind, value, said or key)
        self._pairs[key] = (kind, good)

    def add_plain(self, key: str, value: Any) -> None:
        """The kind that goes without saying: bool, u32, f32 or string."""
        kinds = {bool: "bool", int: "u32", float: "f32", str: "string"}
        self.add(key, kinds[type(value)], value)

    def get(self, key: str, default: Any = None) -> Any:
        """Numbers come back as people wrote them: 1e-06, not the nearest float32."""
        kind, value = self._pairs.get(key, ("", default))
        if kind == "f32":
            return [_short(v) for v in value] if isinstance(value, list) else _short(value)
        return value

    def pop(self, key: str) -> None:
        self._pairs.pop(key, None)

    def __contains__(self, key: str) -> bool:
        return key in self._pairs

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def encoded(self) -> Iterator[tuple[str, bytes]]:
        """(key, its pair as it stands in the file)."""
        for key, (kind, value) in self._pairs.items():
            head = _text(key)
            if not isinstance(value, list):
                number = STRING if kind == "string" else NUMBERS[kind]
                yield key, head + struct.pack("<I", number) + _one(kind, value)
            else:
                number = STRING if kind == "string" else NUMBERS[kind]
                yield key, head + struct.pack("<IIQ", ARRAY, number, len(value)) + _many(kind, value)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _one(kind: str, value: Any) -> bytes:
    return _text(value) if kind == "string" else struct.pack("<" + CODES[kind], value)


def _many(kind: str, values: Sequence[Any]) -> bytes:
    if kind == "string":
        return b"".join(map(_text, values))
    return struct.pack(f"<{len(values)}{CODES[kind]}", *values)


def _checked(kind: str, value: Any, said: str) -> Any:
    try:
        if kind == "string" and isinstance(value, str):
            return value
        if kind == "bool" and isinstance(value, bool | np.bool_):
            return bool(value)
        if kind in ("f32", "f64") and not isinstance(value, bool):
            struct.pack("<" + CODES[kind], float(value))
            return float(value)
        if kind in INTEGERS and not isinstance(value, bool) and int(value) == value:
            struct.pack("<" + CODES[kind], int(value))
            return int(value)
    except (TypeError, ValueError, OverflowError, struct.error):
        pass
    raise InvalidSource(f'"{said}" cannot be {str(value)[:60]}: it must be a {kind}')


def _short(value: float) -> float:
    return float(str(np.float32(value)))
