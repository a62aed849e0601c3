"""JSON bytes as Go's encoder writes them: what manifests, configs and parameter layers are made of.

Their digests are the names of models and layers, so a byte too many is another model. Compact, ``<`` ``>`` ``&``
and the two Unicode line ends escaped, whole floats without a point, exponents only beyond 1e-6 … 1e21.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def dumps(value: Any, *, sort_keys: bool = False) -> str:
    """Go's ``json.Marshal``: maps there are sorted by key, structs are not. ValueError for what JSON lacks."""
    match value:
        case str():
            return _string(value)
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int():
            return str(value)
        case float():
            return number(value)
        case Mapping():
            items: Iterable[tuple[Any, Any]] = sorted(value.items()) if sort_keys else value.items()
            return "{" + ",".join(f"{_string(str(k))}:{dumps(v, sort_keys=sort_keys)}" for k, v in items) + "}"
        case list() | tuple():
            return "[" + ",".join(dumps(v, sort_keys=sort_keys) for v in value) + "]"
    raise ValueError(f"{type(value).__name__} has no JSON form")


def _string(text: str) -> str:
    # Lone surrogates have no UTF-8; Go writes the replacement character.
    clean = text.encode("utf-8", "replace").decode() if any("\ud800" <= c <= "\udfff" for c in text) else text
    return json.dumps(clean, ensure_ascii=False).translate(ESCAPES)


def number(value: float) -> str:
    """The shortest decimal that reads back as ``value``."""
    if not math.isfinite(value):
        raise ValueError("NaN and infinity have no JSON form")
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    if 1e-6 <= abs(value) < 1e21:
        return format_plain(repr(value))
    digits, _, exponent = repr(value).partition("e")
    return f"{digits.removesuffix('.0')}e{'-' if exponent[0] == '-' else '+'}{exponent.lstrip('+-').zfill(2)}"


def format_plain(text: str) -> str:
    """``1e-05`` → ``0.00001``, ``1e+16`` → ``10000000000000000``, ``2.0`` → ``2``."""
    digits, _, exponent = text.partition("e")
    sign = "-" if digits.startswith("-") else ""
    whole, _, part = digits.lstrip("-").partition(".")
    shift = int(exponent or 0)
    if shift < 0:
        whole, part = "0", "0" * (-shift - len(whole)) + whole + part
    elif shift:
        part = part.ljust(shift, "0")
        whole, part = whole + part[:shift], part[shift:]
    part = part.rstrip("0")
    return f"{sign}{whole}.{part}" if part else f"{sign}{whole}"
