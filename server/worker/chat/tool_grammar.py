"""A Lark grammar for llguidance that lets only whole, valid calls through, from right behind the marker on.

The name is one of the tools', the arguments follow that tool's schema, the closing marker is forced. The
engine starts it lazily: before the marker the model writes what it likes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

SPACE = r"[ \n\t]{1,9}"
GUIDANCE = {"whitespace_pattern": r"[ \n\t]{0,22}", "lenient": True}


def tool_grammar(
    tools: Sequence[Mapping[str, Any]],
    marker: str,
    closing: str,
    *,
    parallel: bool = True,
    special: Collection[str] = (),
) -> str:
    """``special``: the markers that are single tokens of the vocabulary (they are written without quotes)."""

    def mark(text: str) -> str:
        return text if text in special else _literal(text)

    functions = [tool["function"] for tool in tools]
    end = f" ws? {mark(closing)}" if closing else ""
    more = f" (ws? {mark(marker)} ws? call)*" if parallel and marker else ""
    key = f"({_literal(json.dumps('arguments'))} | {_literal(json.dumps('parameters'))})"
    lines = [
        f"start: ws? call{more}",
        f'call: "{{" ws? {_literal(json.dumps("name"))} ws? ":" ws? tool ws? "}}"{end}',
        f"tool: {' | '.join(f'tool{i}' for i in range(len(functions)))}",
        f"ws: /{SPACE}/",
    ]
    for i, function in enumerate(functions):
        name = _literal(json.dumps(function["name"], ensure_ascii=False))
        lines.append(f'tool{i}: {name} ws? "," ws? {key} ws? ":" ws? arguments{i}')
        lines.append(f"arguments{i}: %json {json.dumps(_schema(function))}")
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments are an object, whatever the tool's schema says or does not say."""
    return {**(function.get("parameters") or {}), "type": "object", "x-guidance": GUIDANCE}
