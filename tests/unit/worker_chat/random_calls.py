"""Random tools and random calls of them, as unpleasant as each format can bear."""

from __future__ import annotations

import random
from typing import Any

from server.types import ToolCall
from server.worker.chat.formats.row import ToolFormat, cores

NAMES = ["get_weather", "get_weather_now", "json", "function", "write-file", "a.b", "Ärger", "f", "call", "arguments"]
KEYS = ["city", "days", "name", "arguments", "parameters", "über", "key", "x_1", "type", "value"]
PIECES = [
    *("a", " ", "\n", "é", "世界", "😀", '"', "'", "\\", "\\n", "{", "}", "[", "]", "(", ")", ",", ":", "=", "<", ">"),
    *("&amp;", "</think>", "\t", "null", "12", "```", "```json", "{}", '{"name": "f", "arguments": {}}', "</", "<|"),
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<function=f>", "</function>", "\r\n", "\u2028", "#", "$", "%s"),
]


def schema(kind: str) -> dict[str, Any]:
    return {"type": kind}


def tools(rng: random.Random) -> dict[str, dict[str, Any]]:
    kinds = ["string", "string", "integer", "number", "boolean", "object", "array", "null"]
    return {
        name: {"type": "object", "properties": {key: schema(rng.choice(kinds)) for key in rng.sample(KEYS, 5)}}
        for name in rng.sample(NAMES, 4)
    }


def calls(rng: random.Random, known: dict[str, dict[str, Any]], row: ToolFormat) -> list[ToolCall]:
    made = []
    for index in range(rng.choice([1, 1, 2, 3]) if row.parallel else 1):
        name = rng.choice(list(known))
        properties = known[name]["properties"]
        keys = rng.sample(list(properties), rng.randint(0, len(properties)))
        arguments = {key: value(rng, properties[key]["type"], row) for key in keys}
        made.append(ToolCall(name, arguments, identity(rng), index))
    return made


def identity(rng: random.Random) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9))


def value(rng: random.Random, kind: str, row: ToolFormat, depth: int = 0) -> Any:
    match kind:
        case "string":
            return text(rng, row)
        case "integer":
            return rng.choice([0, -1, 7, 2**53 + 1, -(2**63), 2**63 - 1])
        case "number":
            return rng.choice([0.5, -1e300, 1e-9, 3, 3.0])
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
    kinds = ["string", "integer", "boolean", "null", *(["object", "array"] if depth < 3 else [])]
    items = [value(rng, rng.choice(kinds), row, depth + 1) for _ in range(rng.randint(0, 3))]
    if kind == "array":
        return items
    return {inner_key(rng, row, n): item for n, item in enumerate(items)}


def inner_key(rng: random.Random, row: ToolFormat, number: int) -> str:
    return f"{rng.choice(KEYS)}{number}" if row.quote else text(rng, row) + str(number)


def text(rng: random.Random, row: ToolFormat) -> str:
    """Words with quotes, brackets and markers; the row's own closing tag only where it leaves no doubt."""
    own = [*cores(row.call[0]), *cores(row.call[1]), *cores(row.section[0]), *cores(row.section[1]), row.quote]
    pieces = [*PIECES, *filter(None, own), *(f"{core}." for core in cores(row.pair[1])), *cores(row.tail)]
    said = "".join(rng.choice(pieces) for _ in range(rng.choice([0, 1, 2, 4, 9, 30])))
    if row.quote:
        said = said.replace(row.quote, f"{row.quote}.")
    if row.kind == "tags":
        said = said.replace(f"{cores(row.pair[1])[0]}", f"{cores(row.pair[1])[0]}.")
    return said
