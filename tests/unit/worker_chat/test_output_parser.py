"""Thinking, content and tool calls together."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.worker.chat.formats import tool_parser
from server.worker.chat.output import OutputParser
from server.worker.chat.thinking import ThinkingParser

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "París"}}\n</tool_call>'
Split = tuple[str, str, list[str]]


def make(*, inside: bool = False, think: bool = True, tools: bool = True) -> OutputParser:
    calls = tool_parser("<tool_call>", ["get_weather"]) if tools else None
    thinking = ThinkingParser("<think>", "</think>", inside=inside, interrupt=calls.marker if calls else "")
    return OutputParser(thinking if think else None, calls)


def read(text: str, cuts: list[int] | None = None, **options: bool) -> Split:
    parser = make(**options)
    points = sorted({min(c, len(text)) for c in cuts or []} | {0, len(text)})
    chunks = [chunk for a, b in pairwise(points) for chunk in parser.feed(text[a:b])] + parser.finish()
    assert all(chunk.content or chunk.thinking or chunk.tool_calls for chunk in chunks)
    assert all(chunk.final is None for chunk in chunks)
    calls = [f"{call.name}({call.arguments.get('city')})" for chunk in chunks for call in chunk.tool_calls]
    return "".join(c.thinking for c in chunks), "".join(c.content for c in chunks), calls


PARIS = ["get_weather(París)"]
CASES: list[tuple[str, dict[str, bool], Split]] = [
    (f"<think>\nhm\n</think>\n\nLet me look.\n{CALL}", {}, ("hm\n", "Let me look.\n", PARIS)),
    (f"<think>hm</think>{CALL}\n{CALL}", {}, ("hm", "", PARIS * 2)),
    (f"<think>hm {CALL}", {}, ("hm ", "", PARIS)),
    (f"hm {CALL}\n</think>\nAnd?", {"inside": True}, ("hm ", "And?", PARIS)),
    (f"<think>a</think>b{CALL}", {"think": False}, ("", "<think>a</think>b", PARIS)),
    (f"<think>a</think>b{CALL}", {"tools": False}, ("a", f"b{CALL}", [])),
    ("<think>a</think>b", {"think": False, "tools": False}, ("", "<think>a</think>b", [])),
    ('<think>{"a": 1}</think>{"a": 2}', {}, ('{"a": 1}', '{"a": 2}', [])),
    ("<think>a <tool_call> b", {}, ("a ", "<tool_call> b", [])),
    ("世界 <thi", {}, ("", "世界 <thi", [])),
    ("", {}, ("", "", [])),
]


@pytest.mark.parametrize(("text", "options", "expected"), CASES)
def test_a_text_is_split(text: str, options: dict[str, bool], expected: Split) -> None:
    assert read(text, **options) == expected
    assert read(text, list(range(len(text))), **options) == expected


@given(st.sampled_from(CASES), st.lists(st.integers(0, 200)))
def test_the_cuts_do_not_matter(case: tuple[str, dict[str, bool], Split], cuts: list[int]) -> None:
    text, options, expected = case
    assert read(text, cuts, **options) == expected


def test_text_that_needs_no_parsing_goes_straight_through() -> None:
    parser = make(think=False, tools=False)
    assert parser.in_content
    assert [chunk.content for chunk in parser.feed("<tool")] == ["<tool"]
    assert parser.feed("") == []
    assert parser.finish() == []


def test_a_constraint_starts_with_the_content() -> None:
    parser = make(tools=False)
    assert not parser.in_content
    assert parser.may_think("<think>")
    assert not parser.may_think("{")
    parser.feed("<think>a</think>")
    assert parser.in_content
    assert not parser.may_think("a")


def test_a_call_in_progress_is_told() -> None:
    parser = make()
    parser.feed("<think>a</think>x <tool_call>{")
    assert parser.in_content
    assert parser.in_call
