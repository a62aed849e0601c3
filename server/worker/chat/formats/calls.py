"""From the JSON that a model wrote to calls of known tools.

``JsonScanner`` finds where a JSON value ends while it is still arriving; ``read_calls`` understands the
spellings ``{"name", "arguments"}``, ``{"name", "parameters"}``, ``{"function": {…}}``, ``{"tool_name", …}``,
``{name: {…}}`` and arrays of them. ``CallCounter`` gives ids and indexes.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Collection, Iterable
from typing import Any

from server.types import ToolCall
from server.worker.chat.formats.markers import held_back

_INSIDE = {quote: re.compile(rf"[{quote}\\]") for quote in "\"'"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_ALPHABET = string.ascii_lowercase + string.digits
INT64 = range(-(2**63), 2**64)


class JsonScanner:
    """Where does the object or array end that a text begins with? Each character is looked at once.

    ``quotes``: what a text may stand between; with Python's two, parentheses count as brackets, too.

    One of the ``stops`` outside a string proves that it never will: then ``broken`` is set.
    """

    def __init__(self, *stops: str, quotes: str = '"') -> None:
        self._stops = tuple(filter(None, stops))
        brackets = r"{}\[\]" if quotes == '"' else r"{}\[\]()"
        self._outside = re.compile("|".join((*map(re.escape, self._stops), f"[{quotes}{brackets}]")))
        self._at = 0
        self._depth = 0
        self._quote = ""
        self.broken = False

    def end(self, text: str) -> int:
        """The index behind the value, -1 while it is unfinished. ``text`` is the earlier one and more."""
        while found := (_INSIDE[self._quote] if self._quote else self._outside).search(text, self._at):
            self._at = found.end()
            mark = found.group()
            if mark == "\\":
                if self._at == len(text):
                    self._at -= 1
                    return -1
                self._at += 1
            elif mark in _INSIDE:
                self._quote = "" if self._quote else mark
            elif mark in self._stops:
                self.broken = True
                return -1
            else:
                self._depth += 1 if mark in "{[(" else -1
                if self._depth <= 0:
                    return self._at
        self._at = len(text) - (0 if self._quote else held_back(text[self._at :], *self._stops))
        return -1


class CallCounter:
    """Numbers the calls of one answer from 0 and names them ``call_`` + 8 characters."""

    def __init__(self, randomness: random.Random | None = None) -> None:
        self._random = randomness or random.SystemRandom()
        self._next = 0

    def number(self, calls: Iterable[tuple[str, dict[str, Any]]]) -> tuple[ToolCall, ...]:
        return tuple(self._one(name, arguments) for name, arguments in calls)

    def _one(self, name: str, arguments: dict[str, Any]) -> ToolCall:
        identity = "call_" + "".join(self._random.choices(_ALPHABET, k=8))
        self._next += 1
        return ToolCall(name, arguments, identity, self._next - 1)


Calls = list[tuple[str, dict[str, Any]]]


def read_calls(text: str, tools: Collection[str]) -> Calls | None:
    """The calls that the JSON value ``text`` spells; None unless every one is a whole call of a known tool."""
    value = load(text)
    items = value if isinstance(value, list) else [value]
    calls = [_read_call(item, tools) for item in items]
    found = [call for call in calls if call is not None]
    return found if found and len(found) == len(calls) else None


def read_arguments(text: str, known: Collection[str] = ()) -> dict[str, Any] | None:
    """The arguments in ``text``, an object that is them or that holds them under their usual key.

    ``known``: the names of the tool's own parameters.
    """
    value = load(text)
    if not isinstance(value, dict):
        return None
    key = _key(value)
    inner = value.get(key)
    return inner if len(value) == 1 and isinstance(inner, dict) and key not in known else value


def load(text: str) -> Any:
    """The JSON value, None if it is none. Numbers and strings are made such that they can be written again."""
    try:
        value = json.loads(text, strict=False, parse_int=_integer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return _whole_characters(value) if "\\ud" in text.lower() else value


def _read_call(item: Any, tools: Collection[str]) -> tuple[str, dict[str, Any]] | None:
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("function"), dict):
        item = item["function"]
    name = next((item[key] for key in ("name", "tool_name", "function") if isinstance(item.get(key), str)), None)
    if name is None and len(item) == 1:
        name, inner = next(iter(item.items()))
        item = {"arguments": inner}
    arguments = _object(item.get(_key(item), {}))
    return (name, arguments) if name is not None and name in tools and arguments is not None else None


def _key(item: dict[str, Any]) -> str:
    return next((key for key in ("arguments", "parameters", "args") if key in item), "")


def _object(value: Any) -> dict[str, Any] | None:
    """Arguments are an object; some models write it as a string, or null for none."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = load(value) if value.strip() else {}
    return value if isinstance(value, dict) else None


def _integer(digits: str) -> int | float:
    if len(digits) > 20:
        return float(digits)
    value = int(digits)
    return value if value in INT64 else float(value)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _whole_characters(value: Any) -> Any:
    """``value`` with halves of surrogate pairs, which no UTF-8 can hold, replaced."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(item) for key, item in value.items()}
    return value
