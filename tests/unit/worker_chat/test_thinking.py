"""Splitting thinking from answers, however the text was cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.worker.chat.thinking import ThinkingParser

TAGS = ("<think>", "</think>")


def split(text: str, cuts: list[int] | None = None, **given: object) -> tuple[str, str]:
    parser = ThinkingParser(*TAGS, **given)  # type: ignore[arg-type]
    points = sorted({min(c, len(text)) for c in cuts or []} | {0, len(text)})
    parts = [parser.feed(text[a:b]) for a, b in pairwise(points)] + [parser.finish()]
    return "".join(t for t, _ in parts), "".join(c for _, c in parts)


CASES = [
    ("<think>\nhm\n</think>\n\nYes", {}, ("hm\n", "Yes")),
    (" \n<think>a</think>b</think>c", {}, ("a", "b</think>c")),
    ("hm</think>\nYes", {"inside": True}, ("hm", "Yes")),
    ("\n hm", {"inside": True}, ("hm", "")),
    ("<think>\n hm</think>Yes", {"inside": True}, ("hm", "Yes")),
    ("<thing is", {"inside": True}, ("<thing is", "")),
    ("<thi", {"inside": True}, ("<thi", "")),
    ("<think><think>hm</think>Yes", {}, ("<think>hm", "Yes")),
    ("<think>never closed </th", {}, ("never closed </th", "")),
    ("<think></think>Yes", {}, ("", "Yes")),
    ("<think>\n\n</think>\n\nYes", {}, ("", "Yes")),
    ("Plain <think>x</think> text", {}, ("", "Plain <think>x</think> text")),
    ("  \n plain", {}, ("", "  \n plain")),
    ("  ", {}, ("", "  ")),
    ("<thin ice", {}, ("", "<thin ice")),
    ("<thi", {}, ("", "<thi")),
    ("", {}, ("", "")),
    ("</think>\nYes", {}, ("", "Yes")),
    ("So it is.\n</think>\n\nYes", {}, ("", "So it is.\nYes")),
    ("So it is.</think>\nYes", {}, ("", "So it is.Yes")),
    ("So it is.</think>", {}, ("", "So it is.")),
    ("use the </think> tag\nor </think>x", {}, ("", "use the </think> tag\nor </think>x")),
    ("<think>I call <tool_call>{}", {"interrupt": "<tool_call>"}, ("I call ", "<tool_call>{}")),
    ("<think>\n<tool_call>{}</tool_call>\n</think>\nx", {"interrupt": "<tool_call>"},
     ("", "<tool_call>{}</tool_call>\nx")),
    ("<think>a<tool_ca", {"interrupt": "<tool_call>"}, ("a<tool_ca", "")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "expected"), CASES)
def test_thinking_and_content_are_split(text: str, options: dict[str, object], expected: tuple[str, str]) -> None:
    assert split(text, **options) == expected
    assert split(text, list(range(len(text))), **options) == expected


@given(st.sampled_from(CASES), st.lists(st.integers(0, 60)))
def test_the_cuts_make_no_difference(case: tuple[str, dict[str, object], tuple[str, str]], cuts: list[int]) -> None:
    text, options, expected = case
    assert split(text, cuts, **options) == expected


pieces = st.lists(st.sampled_from(["<think>", "</think>", "<", "</th", "\n", " ", "a", "é", "<tool_call>"]), max_size=9)


@given(pieces, st.booleans(), st.lists(st.integers(0, 60)))
def test_any_text_is_split_alike_and_loses_only_tags_and_white_space(
    words: list[str], inside: bool, cuts: list[int]
) -> None:
    text = "".join(words)
    whole = split(text, inside=inside, interrupt="<tool_call>")
    assert split(text, cuts, inside=inside, interrupt="<tool_call>") == whole
    left = "".join(whole)
    for tag in TAGS:
        left, text = left.replace(tag, ""), text.replace(tag, "")
    assert "".join(left.split()) == "".join(text.split())


def test_content_begins_when_the_closing_tag_is_read() -> None:
    parser = ThinkingParser(*TAGS)
    seen = []
    for piece in ["<", "think>", "a", "</think>", "\n", "b"]:
        parser.feed(piece)
        seen.append(parser.in_content)
    assert seen == [False, False, False, True, True, True]


def test_a_constraint_may_begin_where_no_thinking_can() -> None:
    parser = ThinkingParser(*TAGS)
    assert parser.may_think("\n")
    assert parser.may_think("<th")
    assert not parser.may_think("{")
    parser.feed("<th")
    assert parser.may_think("ink")
    assert not parser.may_think("at")
    parser.feed("ink>")
    assert parser.may_think("{")
    parser.feed("a</think>")
    assert not parser.may_think("<think>")
