"""A row for a template that nobody knows, out of the text that it writes for the calls of the probe.

The names and arguments are known, so what stands around them is the format.
"""

from __future__ import annotations

import json
from typing import Any

from modelfiles.tool_probe import CALLS, common
from server.worker.chat.formats.calls import JsonScanner, load
from server.worker.chat.formats.row import ToolFormat

(FIRST, ARGUMENTS), (SECOND, _) = CALLS
(KEY, VALUE), (KEY2, VALUE2) = ARGUMENTS.items()


def derived(text: str, count: int) -> ToolFormat | None:
    """None where the text is none of: JSON objects or an array, a name and JSON, a name and tagged arguments."""
    for make in (_in_json, _named, _tagged):
        if (row := make(text, count)) is not None and row.openings:
            return row
    return None


def _json_at(text: str, at: int) -> str:
    end = JsonScanner().end(text[at:])
    return text[at : at + end] if end > 0 else ""


def _in_json(text: str, count: int) -> ToolFormat | None:
    for at in (at for at, character in enumerate(text) if character in "{["):
        value = load(_json_at(text, at))
        items = value if isinstance(value, list) else [value]
        if items and isinstance(items[0], dict) and (fields := _fields(items[0])):
            size = len(_json_at(text, at))
            if isinstance(value, list):
                return ToolFormat("derived", "array", section=(text[:at], text[at + size :]), fields=fields)
            between, rest = _between(text, at + size, count)
            return _around("object", text[:at], between, rest, fields=fields)
    return None


def _between(text: str, end: int, count: int) -> tuple[str, str]:
    """What stands between the two objects, and behind the last."""
    if count == 1:
        return "", text[end:]
    at = text.find("{", end)
    return text[end:at], text[at + len(_json_at(text, at)) :]


def _fields(item: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Which key holds what; empty if name or arguments are missing."""
    found = {FIRST: "name", json.dumps(ARGUMENTS): "arguments"}
    fields = []
    for key, value in item.items():
        spelt = value if isinstance(value, str) else json.dumps(value)
        what = found.get(spelt) or ("string" if load(spelt) == ARGUMENTS else "id")
        fields.append((key, what))
    kinds = {what for _, what in fields}
    return tuple(fields) if "name" in kinds and kinds & {"arguments", "string"} else ()


def _around(kind: Any, before: str, between: str, after: str, **given: Any) -> ToolFormat:
    """Markers around each call, or around all of them."""
    opening = before.strip()
    if opening and between.strip().endswith(opening):
        closing = between[: between.rindex(opening)]
        return ToolFormat("derived", kind, call=(before, closing.rstrip() or after), between="\n", **given)
    if between or not opening:
        return ToolFormat("derived", kind, section=(before, after), between=between, **given)
    return ToolFormat("derived", kind, call=(before, after), **given)


def _named(text: str, count: int) -> ToolFormat | None:
    name = text.find(FIRST)
    at = text.find("{", name)
    if name < 0 or at < 0 or load(_json_at(text, at)) != ARGUMENTS:
        return None
    head, end = "{name}" + text[name + len(FIRST) : at], at + len(_json_at(text, at))
    second = text.find(SECOND, end)
    between = text[end:second] if count == 2 else ""
    last = end if count == 1 else text.find("{", second) + len(_json_at(text, text.find("{", second)))
    return _around("json", text[:name], between, text[last:], head=head)


def _tagged(text: str, count: int) -> ToolFormat | None:
    """``O name X key Y value Z key Y value T``: what X and Z end with opens an argument."""
    places, at = [], 0
    for word in (FIRST, KEY, VALUE, KEY2, VALUE2):
        at = text.find(word, at)
        if at < 0:
            return None
        places.append((at, at + len(word)))
        at += len(word)
    (name, a), (b, c), (d, e), (f, _), (_, end) = places
    x, y, z = text[a:b], text[c:d], text[e:f]
    opens = x[len(x) - common(x[::-1], z[::-1]) :]
    closes = z[: len(z) - len(opens)]
    second = text.find(SECOND, end)
    behind = text[end:second] if second >= 0 else text[end:]
    if not opens or not closes or not behind.startswith(closes.strip()):
        return None
    between = behind[len(closes) :] if second >= 0 else ""
    return _around("tags", text[:name], between, text[end + len(closes) :] if second < 0 else _last(text, closes),
                   head="{name}" + x[: len(x) - len(opens)], pair=(f"{opens}{{key}}{y}", closes))  # fmt: skip


def _last(text: str, closes: str) -> str:
    """What stands behind the last argument of the last call."""
    return text[text.rindex(closes.strip()) + len(closes.strip()) :]
