"""gpt-oss's messages with headers, however they arrive."""

from __future__ import annotations

from itertools import pairwise

import pytest

from server.worker.chat.formats.harmony import HarmonyParser

TOOLS = {"get_weather": {"properties": {"city": {"type": "string"}}}}
CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "París"}'
OTHER = '<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{"city": "París"}'
THINK = "<|channel|>analysis<|message|>hm\n"
PARIS = [("get_weather", {"city": "París"})]
Said = tuple[str, str, list[tuple[str, object]]]
CASES: list[tuple[str, Said]] = [
    (f"{THINK}<|end|><|start|>assistant<|channel|>final<|message|>Yes <b>", ("hm\n", "Yes <b>", [])),
    (f"{THINK}<|end|><|start|>assistant{CALL}<|call|>", ("hm\n", "", PARIS)),
    (f"{THINK}<|end|>{OTHER}<|call|>", ("hm\n", "", PARIS)),
    (f"{CALL}<|end|><|start|>assistant{CALL}", ("", "", PARIS * 2)),
    ("<|channel|>commentary<|message|>Let me see.<|end|>" + CALL, ("", "Let me see.", PARIS)),
    ("<|channel|>final<|message|>Yes<|return|>", ("", "Yes", [])),
    ("plain text", ("", "plain text", [])),
    ("a <| b", ("", "a <| b", [])),
    (f"{THINK}never ends", ("hm\nnever ends", "", [])),
    (CALL.replace("get_weather", "unknown"), ("", '{"city": "París"}', [])),
    (CALL.replace('"}', ""), ("", CALL.replace('"}', ""), [])),
    ("", ("", "", [])),
]


def read(text: str, cuts: list[int]) -> Said:
    parser = HarmonyParser(TOOLS)
    points = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    chunks = [chunk for a, b in pairwise(points) for chunk in parser.feed(text[a:b])] + parser.finish()
    calls: list[tuple[str, object]] = [(c.name, c.arguments) for chunk in chunks for c in chunk.tool_calls]
    return "".join(c.thinking for c in chunks), "".join(c.content for c in chunks), calls


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_messages_are_told_apart(text: str, expected: Said) -> None:
    assert read(text, []) == expected
    assert read(text, list(range(len(text)))) == expected
    for cut in range(len(text)):
        assert read(text, [cut]) == expected


def test_a_constraint_begins_behind_the_thinking() -> None:
    parser = HarmonyParser(TOOLS)
    assert parser.may_think("<|channel|>")
    assert not parser.may_think("{")
    parser.feed(THINK)
    assert parser.thinking
    assert parser.may_think("{")
    parser.feed("<|end|><|start|>assistant")
    assert parser.may_think("<|channel|>final")
    parser.feed("<|channel|>final<|message|>")
    assert parser.in_content
    only = HarmonyParser(TOOLS, calls_only=True)
    assert only.may_think("<|channel|>ana")
    assert not only.may_think("<|channel|>final")
