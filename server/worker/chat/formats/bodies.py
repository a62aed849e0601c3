"""Readers of one call's body, by the kind of its row: from text that is arriving to names and arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from server.worker.chat.formats import literals
from server.worker.chat.formats.calls import Calls, JsonScanner, load, read_arguments, read_calls
from server.worker.chat.formats.row import IN_JSON, ToolFormat, cores, parts
from server.worker.chat.formats.scan import NoCall, Reading, Source, json_value, literal, meets, pattern, space, until
from server.worker.chat.formats.schemas import Schema, is_text, may_be_text, property_of

NAME_REACH = 256  # characters between a marker and the first brace: more is prose that mentions the marker
Tools = Mapping[str, Schema]


def body(src: Source, row: ToolFormat, tools: Tools) -> Reading[Calls]:
    """The calls that stand here; NoCall if there are none of known tools."""
    yield from space(src)
    if row.kind == "tags" and not (yield from json_begins(src)):
        return (yield from _tags(src, row, tools))
    if row.kind == "python":
        return (yield from _python(src, row, tools))
    if row.kind == "bare":
        return (yield from _bare(src, row, tools))
    if (yield from json_begins(src)):
        text = yield from json_value(src, *_stops(row))
        calls = _exact(text, row, tools) or read_calls(text, tools)
        if calls is None:
            raise NoCall(src.at)
        return calls
    return (yield from _named(src, row, tools))


def _stops(row: ToolFormat) -> tuple[str, ...]:
    """What cannot stand inside of a call, outside of its texts."""
    return tuple(mark for mark in (*row.openings, *row.closings) if mark not in cores(row.tail))


def _exact(text: str, row: ToolFormat, tools: Tools) -> Calls | None:
    """The calls as the row has them, whatever the names of its keys and of the tools are."""
    found = load(text)
    items = found if isinstance(found, list) else [found]
    calls = [_item(item, row) for item in items] if row.kind in IN_JSON else []
    known = [(name, given) for name, given in calls if name in tools and isinstance(given, dict)]
    return known if known and len(known) == len(items) else None


def _item(item: Any, row: ToolFormat) -> tuple[str, Any]:
    if not isinstance(item, dict):
        return "", None
    if row.kind == "keyed":
        return next(iter(item.items())) if len(item) == 1 else ("", None)
    keys = {"arguments" if what in ("parameters", "string") else what: key for key, what in row.fields}
    name, given = item.get(keys["name"]), item.get(keys["arguments"])
    return (name if isinstance(name, str) else ""), load(given) if isinstance(given, str) else given


def json_begins(src: Source) -> Reading[bool]:
    """An object, or an array of objects."""
    while True:
        here = src.text[src.at : src.at + 1]
        inner = src.text[src.at + 1 :].lstrip()[:1] if here == "[" else here
        if inner or src.final:
            return inner == "{"
        yield


# -- a name, then JSON ------------------------------------------------------------------------------------


def _named(src: Source, row: ToolFormat, tools: Tools) -> Reading[Calls]:
    start = src.at
    stops = _stops(row)
    head, mark = yield from _head(src, stops)
    if mark != "{":
        name = head.strip()
        if name not in tools:
            raise NoCall(start)
        src.at = start + len(head)
        return [(name, {})]
    src.at -= 1
    text = yield from json_value(src, *stops)
    known = _name_in(head, row, tools)
    arguments = read_arguments(text, tools[known].get("properties") or ()) if known is not None else None
    if known is None or arguments is None:
        raise NoCall(src.at)
    return [(known, arguments)]


def _head(src: Source, stops: tuple[str, ...]) -> Reading[tuple[str, str]]:
    """What stands before the first brace; before a marker or the end where there is none."""
    start = src.at
    try:
        return (yield from until(src, "{", *stops, reach=NAME_REACH))
    except NoCall:
        rest = src.text[start:]
        if not src.final or len(rest) > NAME_REACH:
            raise
        return rest, ""


def _name_in(head: str, row: ToolFormat, tools: Tools) -> str | None:
    """The name that ``row`` has in this head, else the longest known one in it."""
    exact = _matcher(row.head).fullmatch(head.strip())
    if exact and exact["name"] in tools:
        return exact["name"]
    words = re.findall(r"[\w.:/-]+", head)
    known = [tool for tool in tools for word in words if word == tool or re.split(r"[.:]", word).count(tool)]
    return max(known, key=len, default=None)


def _matcher(head: str) -> re.Pattern[str]:
    spelt = [f"(?P<{part[1:-1]}>.*?)" if part.startswith("{") and len(part) > 1 else
             r"\s*".join(map(re.escape, cores(part))) for part in parts(head or "{name}")]  # fmt: skip
    return re.compile(r"\s*".join(spelt), re.DOTALL)


# -- tags -------------------------------------------------------------------------------------------------


def _tags(src: Source, row: ToolFormat, tools: Tools) -> Reading[Calls]:
    begun = src.at
    key_open = row.pair[0].removesuffix("\n")
    first, tail = cores(parts(key_open)[0])[0], (*cores(row.tail), *row.closings)
    found = yield from pattern(src, row.head, first, *tail)
    schema = tools.get(found["name"], {})
    arguments: dict[str, Any] = {}
    while True:
        yield from space(src)
        if not (yield from meets(src, first)):
            break
        at = src.at
        said = yield from pattern(src, key_open)
        if not said["key"] or said["key"] in arguments or len(said["key"]) > NAME_REACH:
            raise NoCall(at)
        arguments[said["key"]] = yield from _value(src, row, first, tail, said, property_of(schema, said["key"]))
    if found["name"] not in tools:
        raise NoCall(max(src.at, begun))
    yield from literal(src, row.tail) if row.tail else space(src)
    return [(found["name"], arguments)]


def _value(
    src: Source, row: ToolFormat, first: str, tail: tuple[str, ...], said: Mapping[str, str], schema: Schema
) -> Reading[Any]:
    """Text up to a closing tag behind which the call goes on or ends: a text may hold the tag itself."""
    begin, close = src.at, cores(row.pair[1])[0]
    text_only = said.get("string") == "true" or (said.get("type") == "string") or (not _typed(said) and is_text(schema))
    while True:
        try:
            yield from until(src, close)
        except NoCall:
            raise NoCall(begin) from None
        end = src.at
        yield from space(src)
        goes_on = (src.final and src.at == len(src.text)) or bool((yield from meets(src, first, *tail)))
        text = _between(src.text[begin : end - len(close)], row)
        if goes_on and (text_only or _complete(text)):
            return text if text_only else _typed_value(text, said, schema)
        src.at = end


def _typed(said: Mapping[str, str]) -> bool:
    return "string" in said or "type" in said


def _between(text: str, row: ToolFormat) -> str:
    """Less the one new line at each end that belongs to the tags."""
    if row.pair[0].endswith("\n"):
        text = text.removeprefix("\n")
    return text.removesuffix("\n") if row.pair[1].startswith("\n") else text


def _complete(text: str) -> bool:
    """An object or array that has its end (or no such value at all)."""
    text = text.strip()
    if not text.startswith(("{", "[")):
        return True
    end = JsonScanner(quotes="\"'" if "'" in text and load(text) is None else '"').end(text)
    return end == len(text)


def _typed_value(text: str, said: Mapping[str, str], schema: Schema) -> Any:
    found = load(text)
    if found is not None or text.strip() == "null":
        return found
    try:
        found = literals.value(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(found, str) and not _typed(said) and may_be_text(schema) else found


# -- other notations --------------------------------------------------------------------------------------


def _python(src: Source, row: ToolFormat, tools: Tools) -> Reading[Calls]:
    """``name(…)``, and those that follow it behind commas."""
    if src.starts("["):
        src.at += 1
    name, _ = yield from until(src, "(", reach=NAME_REACH)
    src.at -= 1
    text = yield from json_value(src, *(stop for stop in row.closings if len(stop) > 1), quotes="\"'")
    try:
        arguments = literals.keywords(text[1:-1])
    except (ValueError, RecursionError):
        raise NoCall(src.at) from None
    if name.strip() not in tools:
        raise NoCall(src.at)
    return [(name.strip(), arguments)]


def _bare(src: Source, row: ToolFormat, tools: Tools) -> Reading[Calls]:
    name, _ = yield from until(src, "{", reach=NAME_REACH)
    begin, close = src.at, f"}}{row.call[1]}"
    while True:
        try:
            yield from until(src, close)
            end = src.at - len(close)
        except NoCall:
            end = src.text.rstrip().rfind("}")
            if end < begin:
                raise NoCall(begin) from None
            src.at = len(src.text)
        try:
            arguments = literals.fields(src.text[begin:end], row.quote)
        except (ValueError, RecursionError):
            if src.at >= len(src.text) and src.final:
                raise NoCall(begin) from None
            src.at = end + 1
            continue
        src.at = end + 1
        if name.strip() not in tools:
            raise NoCall(src.at)
        return [(name.strip(), arguments)]
