"""The grammar of tool calls, judged by llguidance itself."""

from __future__ import annotations

from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from server.worker.chat.formats import tool_parser
from server.worker.chat.tool_grammar import tool_grammar


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool(
    "get_weather",
    type="object",
    properties={"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
    required=["city"],
)
TOOLS = [WEATHER, {"type": "function", "function": {"name": 'say "hé"'}}]
OPEN, CLOSE = "<tool_call>", "</tool_call>"


def accepts(text: str, **options: Any) -> bool:
    matcher = LLMatcher(LLTokenizer("byte"), tool_grammar(TOOLS, OPEN, CLOSE, **options), log_level=0)
    assert not matcher.get_error()
    raw = list(text.encode())
    return bool(matcher.try_consume_tokens(raw) == len(raw) and matcher.is_accepting())


PARIS = '\n{"name": "get_weather", "arguments": {"city": "París", "days": 3}}\n</tool_call>'
SAID = '{"name":"say \\"hé\\"","parameters":{"any": [1, {}]}}</tool_call>'


@pytest.mark.parametrize("text", [PARIS, SAID, f"{PARIS}\n{OPEN}{SAID}", f"{SAID}{OPEN}{PARIS}"])
def test_valid_calls_pass_and_are_read_by_the_parser(text: str) -> None:
    assert accepts(text)
    names = ["get_weather", 'say "hé"']
    parser = tool_parser(OPEN, names)
    chunks = parser.feed(OPEN + text) + parser.finish()
    assert not any(chunk.content for chunk in chunks)
    assert {call.name for chunk in chunks for call in chunk.tool_calls} <= set(names)


@pytest.mark.parametrize(
    "text",
    [
        PARIS.replace("3", "9"),
        PARIS.replace("city", "town"),
        PARIS.replace("get_weather", "get_water"),
        PARIS.removesuffix(CLOSE),
        SAID.replace('{"any": [1, {}]}', "[]"),
        PARIS + " and so on",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    assert not accepts(text)


def test_one_call_only() -> None:
    assert accepts(PARIS, parallel=False)
    assert not accepts(f"{PARIS}{OPEN}{PARIS}", parallel=False)


def test_markers_that_are_tokens_are_not_quoted() -> None:
    grammar = tool_grammar(TOOLS, OPEN, CLOSE, special=[OPEN, CLOSE])
    assert f'"{OPEN}"' not in grammar
    assert f" {CLOSE}\n" in grammar
