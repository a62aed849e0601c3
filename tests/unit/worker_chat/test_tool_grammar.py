"""The grammars of tool calls, judged by llguidance itself: what a family writes passes, what no tool takes does not."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import random_calls
from llguidance import LLMatcher, LLTokenizer

from server.types import ToolCall
from server.worker.chat.formats import tool_parser
from server.worker.chat.formats.grammar import tool_grammar
from server.worker.chat.formats.render import render
from server.worker.chat.formats.row import ToolFormat, cores
from server.worker.chat.formats.rows import BY_NAME, HERMES, ROWS
from server.worker.chat.formats.schemas import schemas_of

BYTES = LLTokenizer("byte")


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool(
    "get_weather",
    type="object",
    properties={
        "city": {"type": "string", "minLength": 2},
        "days": {"type": "integer", "maximum": 7},
        "unit": {"enum": ["C", "F"]},
        "day": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
    },
    required=["city"],
)
TOOLS = [WEATHER, {"type": "function", "function": {"name": 'say "hé"'}}]


def accepts(row: ToolFormat, text: str, tools: Any = TOOLS, **options: Any) -> bool:
    matcher = LLMatcher(BYTES, tool_grammar(row, tools, **options), log_level=0)
    assert not matcher.get_error()
    raw = list(text.encode())
    return bool(matcher.try_consume_tokens(raw) == len(raw) and matcher.is_accepting())


def said(row: ToolFormat, *given: dict[str, Any], name: str = "get_weather") -> str:
    return render(row, [ToolCall(name, arguments, "a1b2c3d4e", n) for n, arguments in enumerate(given)])


GOOD: list[dict[str, Any]] = [
    {"city": "París"},
    {"city": "Rome", "days": 3, "unit": "C"},
    {"city": "a\n<b>", "day": "2026-11-26", "code": "ABC"},
]
BAD: list[dict[str, Any]] = [
    {"city": "Rome", "days": 9},
    {"city": "Rome", "unit": "K"},
    {"city": "Rome", "day": "someday"},
    {"city": "Rome", "code": "ABCD"},
    {"city": "R"},
    {"town": "Rome"},
    {},
]


def exact(row: ToolFormat) -> ToolFormat:
    """Apriel's arguments are JSON in a string; its grammar asks for the object itself, which is read as well."""
    fields = tuple((key, "arguments" if what == "string" else what) for key, what in row.fields)
    return replace(row, fields=fields)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_a_family_writes_passes_and_what_no_tool_takes_does_not(row: ToolFormat) -> None:
    for arguments in GOOD:
        if row.kind == "python":  # a text whose length is bounded has no escapes between single quotes
            arguments = {**arguments, "city": arguments["city"].replace("\n", " ")}
        assert accepts(row, said(exact(row), arguments)), arguments
    for arguments in BAD:
        assert not accepts(row, said(exact(row), arguments)), arguments
    assert not accepts(row, said(row, GOOD[0], name="get_water"))
    assert not accepts(row, said(row, GOOD[0]) + " and so on")


@pytest.mark.parametrize("row", [row for row in ROWS if row.parallel and row.kind != "harmony"], ids=lambda r: r.name)
def test_several_calls_and_one_only(row: ToolFormat) -> None:
    both = said(exact(row), GOOD[0], GOOD[1])
    assert accepts(row, both)
    assert not accepts(row, both, parallel=False)
    assert accepts(row, said(exact(row), GOOD[0]), parallel=False)


@pytest.mark.parametrize("row", [r for r in ROWS if r.kind not in ("bare", "python", "harmony")], ids=lambda r: r.name)
def test_random_calls_pass(row: ToolFormat) -> None:
    for seed in range(8):
        rng = random.Random(seed)
        known = random_calls.tools(rng)
        closing = cores(row.pair[1])[0] if row.kind == "tags" else "\0"
        calls = [
            replace(call, arguments={key: call.arguments[key] for key in known[call.name]["properties"]
                                     if key in call.arguments and closing not in str(call.arguments[key])})
            for call in random_calls.calls(rng, known, row)
        ]  # fmt: skip
        tools = [tool(name, **schema) for name, schema in known.items()]
        assert accepts(row, render(exact(row), calls), tools), render(row, calls)


def test_a_tool_without_parameters() -> None:
    for row in ROWS:
        assert accepts(row, said(exact(row), {}, name="f"), [tool("f")]), row.name
        assert accepts(row, said(exact(row), {}, name="f"), [{"function": {"name": "f"}}]), row.name


def test_an_answer_of_its_own_schema_in_place_of_calls() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert accepts(HERMES, '{"n": 1}', answer=schema)
    assert accepts(HERMES, said(HERMES, GOOD[0]), answer=schema)
    assert not accepts(HERMES, "one", answer=schema)


def test_white_space_is_free_where_the_family_has_a_new_line() -> None:
    loose = '<tool_call>{"name":"get_weather","parameters":{"city":"Rome"}}</tool_call>'
    assert accepts(HERMES, loose)
    assert not accepts(BY_NAME["seed"], loose)


def test_keywords_that_no_grammar_can_hold_do_not_undo_the_rest() -> None:
    odd = tool("f", type="object", properties={"a": {"type": "integer", "not": {"const": 3}}}, required=["a"])
    assert accepts(HERMES, said(HERMES, {"a": 4}, name="f"), [odd])
    assert not accepts(HERMES, said(HERMES, {"a": "x"}, name="f"), [odd])


def test_markers_that_are_tokens_are_numbers() -> None:
    grammar = tool_grammar(HERMES, TOOLS, spell=lambda text: [7] if text == "<tool_call>" else [text])
    assert "<[7]>" in grammar
    assert '"<tool_call>"' not in grammar
    assert '"</tool_call>"' in grammar


def test_what_passes_is_read_by_the_parser() -> None:
    for row in ROWS:
        if row.kind != "harmony":
            parser = tool_parser(row, schemas_of(TOOLS))
            chunks = [*parser.feed(said(row, GOOD[1])), *parser.finish()]
            assert [call.arguments for chunk in chunks for call in chunk.tool_calls] == [GOOD[1]], row.name
            assert not any(chunk.content for chunk in chunks), row.name
