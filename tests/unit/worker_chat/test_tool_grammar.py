"""The grammars of tool calls, judged by llguidance itself: what a family writes passes, what no tool takes does not."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import pytest
import random_calls
from llguidance import LLMatcher, LLTokenizer

from server.types import ToolCall
from server.worker.chat.formats import tool_parser
from server.worker.chat.formats.grammar import MAX_CALLS, tool_grammar
from server.worker.chat.formats.render import render
from server.worker.chat.formats.row import IN_JSON, JSON_SHAPED, ToolFormat, cores
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


def calls_of(row: ToolFormat, text: str) -> list[dict[str, Any]]:
    parser = tool_parser(row, schemas_of(TOOLS))
    chunks = [*parser.feed(text), *parser.finish()]
    assert not "".join(chunk.content for chunk in chunks).strip()
    return [dict(call.arguments) for chunk in chunks for call in chunk.tool_calls]


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


def spaced(row: ToolFormat, gap: str, *given: dict[str, Any]) -> str:
    """Calls with ``gap`` around every marker that does not touch a name, and around what JSON is made of."""
    head = "" if row.kind in IN_JSON else row.call[0].strip()
    inner = replace(row, section=("", ""), call=(head, ""), between="", head=row.head + gap, tail=gap + row.tail)
    listed = (given,) if row.kind in ("array", "keyed") else [(arguments,) for arguments in given]
    calls = []
    for some in listed:
        said_so = re.sub(r'(?<=[{\[,:])(?=["{])|(?<=["}])(?=[}\]:])', gap, said(inner, *some))
        calls.append(f"{'' if head else row.call[0]}{gap}{said_so}{gap}{row.call[1]}")
    return gap.join([row.section[0], row.between.join(calls), row.section[1]]).strip()


@pytest.mark.parametrize("gap", ["\n", "\r\n\t"], ids=["line", "lines"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.kind in JSON_SHAPED], ids=lambda row: row.name)
def test_white_space_around_markers_and_json(row: ToolFormat, gap: str) -> None:
    given: list[dict[str, Any]] = [{"city": "Rome"}, {"city": "Pisa", "days": 3}][: 2 if row.parallel else 1]
    text = spaced(exact(row), gap, *given)
    assert accepts(row, text), text
    assert calls_of(row, text) == given, text


def test_white_space_behind_a_call_asks_for_no_other() -> None:
    for row in ROWS:
        if row.parallel and row.kind in ("object", "json") and not row.section[1]:
            assert accepts(row, said(row, GOOD[0]) + "\n"), row.name


SPECIALS = {"<|tool|>": 256, "<|/tool|>": 257}
"""Tokens of llguidance's vocabulary of bytes that no text is."""


@pytest.mark.parametrize("spelt", ["number", "text"])
def test_a_marker_that_is_a_token_may_be_text(spelt: str) -> None:
    """Vocabularies have tokens like ``<tool_call>\\n``, too, which are text to a grammar."""
    row = replace(HERMES, call=("<|tool|>\n", "\n<|/tool|>"))
    grammar = tool_grammar(row, TOOLS, spell=lambda text: [SPECIALS.get(text, text)])
    text = said(row, GOOD[0], GOOD[1])
    tokens: list[int] = []
    for part in re.split(r"(<\|/?tool\|>)", text):
        tokens += [SPECIALS[part]] if spelt == "number" and part in SPECIALS else list(part.encode())
    matcher = LLMatcher(BYTES, grammar, log_level=0)
    assert matcher.try_consume_tokens(tokens) == len(tokens)
    assert matcher.is_accepting()


@pytest.mark.parametrize("name", ["hermes", "mistral", "devstral", "qwen3-coder", "lfm2", "gemma4"])
def test_an_answer_has_an_end(name: str) -> None:
    row = BY_NAME[name]
    assert accepts(row, said(row, *[GOOD[0]] * MAX_CALLS))
    assert not accepts(row, said(row, *[GOOD[0]] * (MAX_CALLS + 1)))


def test_keywords_that_no_grammar_can_hold_do_not_undo_the_rest() -> None:
    odd = tool("f", type="object", properties={"a": {"type": "integer", "not": {"const": 3}}}, required=["a"])
    assert accepts(HERMES, said(HERMES, {"a": 4}, name="f"), [odd])
    assert not accepts(HERMES, said(HERMES, {"a": "x"}, name="f"), [odd])


def test_markers_that_are_tokens_are_numbers() -> None:
    grammar = tool_grammar(HERMES, TOOLS, spell=lambda text: [7] if text == "<tool_call>" else [text])
    assert '(<[7]> | "<tool_call>")' in grammar
    assert '"</tool_call>"' in grammar


def test_what_passes_is_read_by_the_parser() -> None:
    for row in ROWS:
        if row.kind != "harmony":
            parser = tool_parser(row, schemas_of(TOOLS))
            chunks = [*parser.feed(said(row, GOOD[1])), *parser.finish()]
            assert [call.arguments for chunk in chunks for call in chunk.tool_calls] == [GOOD[1]], row.name
            assert not any(chunk.content for chunk in chunks), row.name
