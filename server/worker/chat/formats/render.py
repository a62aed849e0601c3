"""The calls of one answer as text, in the format of a row: what a model of that family would have written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from server.types import ToolCall
from server.worker.chat.formats.literals import bare_text, python_text
from server.worker.chat.formats.row import ToolFormat, fill

HARMONY_CALL = "<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
TYPES = {str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}


def render(row: ToolFormat, calls: Sequence[ToolCall]) -> str:
    if row.kind in ("array", "keyed"):
        said = "[" + ", ".join(_object(row, call, n) for n, call in enumerate(calls)) + "]"
    else:
        said = row.between.join(f"{row.call[0]}{_body(row, call, n)}{row.call[1]}" for n, call in enumerate(calls))
    return f"{row.section[0]}{said}{row.section[1]}"


def _body(row: ToolFormat, call: ToolCall, number: int) -> str:
    if row.kind == "object":
        return _object(row, call, number)
    if row.kind == "harmony":
        return fill(HARMONY_CALL, name=call.name) + dumps(call.arguments)
    head = fill(row.head, name=call.name, id=call.id, index=number)
    return f"{head}{_arguments(row, call.arguments)}{row.tail}"


def _arguments(row: ToolFormat, arguments: Mapping[str, Any]) -> str:
    match row.kind:
        case "tags":
            return "".join(_tagged(row, key, value) for key, value in arguments.items())
        case "python":
            return ", ".join(f"{key}={python_text(value)}" for key, value in arguments.items())
        case "bare":
            return bare_text(dict(arguments), row.quote)[1:-1]
    return dumps(arguments)


def _tagged(row: ToolFormat, key: str, value: Any) -> str:
    text = value if isinstance(value, str) else dumps(value)
    string = "true" if isinstance(value, str) else "false"
    return fill(row.pair[0], key=key, string=string, type=TYPES.get(type(value), "null")) + text + row.pair[1]


def _object(row: ToolFormat, call: ToolCall, number: int) -> str:
    if row.kind == "keyed":
        return dumps({call.name: call.arguments})
    given = {"name": call.name, "arguments": call.arguments, "parameters": call.arguments, "id": call.id}
    given |= {"index": str(number), "string": dumps(call.arguments)}
    return dumps({key: given[what] for key, what in row.fields})


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
