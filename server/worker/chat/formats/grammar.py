"""A Lark grammar for llguidance that lets only whole, valid calls through, in the format of a row.

It covers an answer from the opening marker of its first call to its end. Each name is one of the tools', the
arguments follow that tool's schema, the closing markers are forced. ``Spell`` says which parts of a literal are
single tokens of the vocabulary that no text can be (they are written by number).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.worker.chat.formats.row import JSON_SHAPED, ToolFormat, fill, parts
from server.worker.chat.formats.schemas import Schema, parameters_of
from server.worker.chat.formats.values import Lark
from server.worker.engine.schema import relaxed

Spell = Callable[[str], Sequence[str | int]]
HARMONY = "<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
HARMONY_START = "<|start|>assistant"
MAX_CALLS = 64  # in one answer; a model that repeats itself would write calls until its window is full
ID, NUMBER = "/[a-zA-Z0-9]{9}/", "/[0-9]{1,3}/"


def as_text(text: str) -> Sequence[str | int]:
    """No marker is a token."""
    return [text]


def tool_grammar(
    row: ToolFormat,
    tools: Sequence[Mapping[str, Any]],
    *,
    parallel: bool = True,
    spell: Spell = as_text,
    answer: Schema | None = None,
) -> str:
    """``answer``: the answer may be JSON of this schema in place of calls."""
    lark = Lark(spell)
    called = [_Tool(lark, row, number, tool).rule() for number, tool in enumerate(tools)]
    lark.add("tool", " | ".join(called))
    lark.add("calls", _calls(lark, row, parallel and row.parallel))
    if answer is not None:
        lark.add("answer", lark.json(answer))
    lark.add("start", "calls" if answer is None else "calls | answer")
    return lark.text()


def _calls(lark: Lark, row: ToolFormat, parallel: bool) -> str:
    if row.kind == "harmony":
        return f"({lark.loose(HARMONY_START)})? tool"
    opening, closing = lark.loose(row.section[0]), _closing(lark, row, row.section[1])
    if row.kind in ("array", "keyed"):
        more = f' (ws? "," ws? tool){{0,{MAX_CALLS - 1}}}' if parallel else ""
        return f'{opening} ws? "[" ws? tool{more} ws? "]" {closing}'
    before = "ws? " if row.kind in JSON_SHAPED and row.section[0] else ""
    call = f"{before}{lark.loose(row.call[0])} tool {_closing(lark, row, row.call[1])}"
    if not parallel:
        return f"{opening} {call} {closing}"
    # White space may be an answer's last: where only a call could follow it, a model had to go on calling.
    return f"{opening} {call} ({_between(lark, row)} {call}){{0,{MAX_CALLS - 1}}} ws? {closing}"


def _closing(lark: Lark, row: ToolFormat, text: str) -> str:
    """Behind JSON, white space is free before what closes it."""
    return lark.loose(f"\n{text}" if row.kind in JSON_SHAPED and text.strip() else text)


def _between(lark: Lark, row: ToolFormat) -> str:
    return '"," ws?' if row.between == ", " else lark.loose(row.between) or "ws?"


class _Tool:
    """The rules of one tool."""

    def __init__(self, lark: Lark, row: ToolFormat, number: int, tool: Mapping[str, Any]) -> None:
        self.lark, self.row, self.number = lark, row, number
        self.name = str(tool["function"]["name"])
        # Arguments are an object, whatever the tool's schema says or does not say.
        self.schema = relaxed({**parameters_of(tool), "type": "object"})

    def rule(self) -> str:
        return self.lark.add(f"tool{self.number}", self._body())

    def _body(self) -> str:
        row, lark = self.row, self.lark
        match row.kind:
            case "object" | "array":
                fields = ' ws? "," ws? '.join(self._field(key, what) for key, what in row.fields)
                return f'ws? "{{" ws? {fields} ws? "}}"'
            case "keyed":
                return f'ws? "{{" ws? {lark.quoted(self.name)} ws? ":" ws? {self._json()} ws? "}}"'
            case "harmony":
                return f"{lark.loose(fill(HARMONY, name=self.name))} {self._json()}"
        space = "ws?" if row.kind == "json" else ""
        return f"{self._head()} {space} {self._arguments()} {_closing(lark, row, row.tail)}"

    def _head(self) -> str:
        known = {"{id}": ID, "{index}": NUMBER}
        pieces = [known.get(piece) or self.lark.loose(fill(piece, name=self.name)) for piece in parts(self.row.head)]
        return " ".join(pieces)

    def _arguments(self) -> str:
        match self.row.kind:
            case "tags":
                return self.lark.tagged(f"t{self.number}", self.schema, self.row.pair)
            case "python":
                return self.lark.listed(f"t{self.number}", self.schema, "=", ", ", "")
            case "bare":
                return self.lark.listed(f"t{self.number}", self.schema, ":", ",", self.row.quote)
        return self._json()

    def _field(self, key: str, what: str) -> str:
        keys = ("arguments", "parameters") if key in ("arguments", "parameters") else (key,)
        spelt = " | ".join(self.lark.quoted(each) for each in keys)
        return f'({spelt}) ws? ":" ws? {self._value(what)}'

    def _value(self, what: str) -> str:
        match what:
            case "name":
                return self.lark.quoted(self.name)
            case "id":
                return f'"\\"" {ID} "\\""'
            case "index":
                return f'"\\"" {NUMBER} "\\""'
        return self._json()

    def _json(self) -> str:
        return self.lark.add(f"arguments{self.number}", self.lark.json(self.schema))
