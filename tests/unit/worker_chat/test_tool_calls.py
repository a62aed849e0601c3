"""Tool calls in model text: whole calls of known tools, and no lost text."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.types import Chunk, ToolCall
from server.worker.chat.formats import closing_marker, tool_parser
from server.worker.chat.formats.calls import CallCounter, JsonScanner, read_calls
from server.worker.chat.formats.row import ToolFormat
from server.worker.chat.formats.rows import BY_NAME

TOOLS = ("get_weather", "get_time", "get_weather_now", "write")
WEATHER = '{"name": "get_weather", "arguments": {"city": "Paris"}}'


def read(marker: str | ToolFormat, text: str, cuts: list[int] | None = None) -> tuple[str, list[tuple[str, object]]]:
    """(content, calls) of ``text`` cut at ``cuts``."""
    parser = tool_parser(marker, TOOLS, CallCounter(random.Random(1)))
    points = sorted({min(c, len(text)) for c in cuts or []} | {0, len(text)})
    chunks: list[Chunk] = []
    for a, b in pairwise(points):
        chunks += parser.feed(text[a:b])
    chunks += parser.finish()
    calls = [call for chunk in chunks for call in chunk.tool_calls]
    assert [call.index for call in calls] == list(range(len(calls)))
    return "".join(c.content for c in chunks), [(c.name, c.arguments) for c in calls]


PARIS = ("get_weather", {"city": "Paris"})
H, C = "<tool_call>", "</tool_call>"
M = "[TOOL_CALLS]"
CASES = [
    (H, f"{H}\n{WEATHER}\n{C}", "", [PARIS]),
    (H, f"Let me see.\n{H}{WEATHER}{C}", "Let me see.\n", [PARIS]),
    (H, f"{H}{WEATHER}{C}\n{H}{WEATHER}{C}\n", "", [PARIS, PARIS]),
    (H, f"{H}{WEATHER}{C}\n\nDone.", "Done.", [PARIS]),
    (H, f"{H}{WEATHER}", "", [PARIS]),
    (H, f"{H}{WEATHER}\n{WEATHER}{C}", "", [PARIS, PARIS]),
    (H, f"{H}{WEATHER}{C} {C}x", "x", [PARIS]),
    (H, f"{H}[{WEATHER}, {WEATHER}]{C}", "", [PARIS, PARIS]),
    (H, f"{H}{WEATHER}[{WEATHER}] [1] [", "[1] [", [PARIS, PARIS]),
    (H, H + '{"name": "get_time"}' + C, "", [("get_time", {})]),
    (H, H + '{"name": "get_time", "arguments": {}}' + C, "", [("get_time", {})]),
    (H, H + '{"name": "get_time", "arguments": null}' + C, "", [("get_time", {})]),
    (H, f"{H}get_time{C}", "", [("get_time", {})]),
    (H, f"{H} get_time", "", [("get_time", {})]),
    (H, H + '{"name": "write", "arguments": "{\\"a\\": 1}"}' + C, "", [("write", {"a": 1})]),
    (H, H + '{"name": "write", "parameters": {"a": {"b": [1, {"c": "}{"}]}}}' + C, "",
     [("write", {"a": {"b": [1, {"c": "}{"}]}})]),
    (H, H + '{"name": "write", "arguments": {"t": "a \\" } </tool_call> <tool_call>"}}' + C, "",
     [("write", {"t": 'a " } </tool_call> <tool_call>'})]),
    (H, H + '{"name": "write", "arguments": {"t": "é 世界 😀 \\ud83d\\ude00 \\ud83d"}}' + C, "",
     [("write", {"t": "é 世界 😀 😀 \ufffd"})]),
    (H, H + '{"name": "write", "arguments": {"t": "line\nbreak"}}' + C, "", [("write", {"t": "line\nbreak"})]),
    (H, H + '{"name": "write", "arguments": {"n": 123456789012345678901234567890}}' + C, "",
     [("write", {"n": 123456789012345678901234567890.0})]),
    # what is no call is content
    (H, H + '{"name": "unknown", "arguments": {}}' + C, H + '{"name": "unknown", "arguments": {}}' + C, []),
    (H, H + '{"name": "write", "arguments": [1]}' + C, H + '{"name": "write", "arguments": [1]}' + C, []),
    (H, H + '{"name": "write", "arguments": {"a": 1', H + '{"name": "write", "arguments": {"a": 1', []),
    (H, H + '{"name": "write", "arguments": {"a": 1}' + C + " x",
     H + '{"name": "write", "arguments": {"a": 1}' + C + " x", []),
    (H, H + '{"name": "write", "arguments": {"a": NaN}}' + C, H + '{"name": "write", "arguments": {"a": NaN}}' + C, []),
    (H, f"{H}{{oops}}{C}{H}{WEATHER}{C}", f"{H}{{oops}}{C}", [PARIS]),
    (H, f"{H}{H}{WEATHER}{C}", H, [PARIS]),
    (H, f"{H}{{{H}{WEATHER}{C}", f"{H}{{", [PARIS]),
    (H, f"the {H} tag", f"the {H} tag", []),
    (H, f"{H}", f"{H}", []),
    (H, f"a {H[:5]}", f"a {H[:5]}", []),
    (H, "1 < 2 {} [x]", "1 < 2 {} [x]", []),
    (H, WEATHER, WEATHER, []),
    (H, "", "", []),
    # other markers
    (M, f"{M}[{WEATHER}, {WEATHER}]", "", [PARIS, PARIS]),
    (M, M + 'get_weather[ARGS]{"city": "Paris"}', "", [PARIS]),
    (M, M + 'get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Paris"}' + M + "get_time[ARGS]{}",
     "", [PARIS, ("get_time", {})]),
    (M, M + 'get_weather_now{"city": "Paris"}', "", [("get_weather_now", {"city": "Paris"})]),
    (M, M + 'nothing[ARGS]{"city": "Paris"}', M + 'nothing[ARGS]{"city": "Paris"}', []),
    (M, M + "[]", M + "[]", []),
    ("<|python_tag|>", '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}', "", [PARIS]),
    ("<|START_ACTION|>",
     '<|START_ACTION|>[{"id": 0, "tool_name": "get_weather", "parameters": {"city": "Paris"}}]<|END_ACTION|>',
     "", [PARIS]),
    ("<|tool_call_begin|>", '<|tool_call_begin|>functions.get_weather:0<|sep|>{"city": "Paris"}', "", [PARIS]),
    # no marker: the answer is the call
    ("{", WEATHER, "", [PARIS]),
    ("", f"\n {WEATHER}; {WEATHER}", "", [PARIS, PARIS]),
    ("[", f"[{WEATHER}]", "", [PARIS]),
    ("{", '{"get_weather": {"city": "Paris"}}', "", [PARIS]),
    ("{", '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}', "", [PARIS]),
    ("{", '{"answer": 42}', '{"answer": 42}', []),
    ("{", ' {"answer": 42', ' {"answer": 42', []),
    ("{", f"Well: {WEATHER}", f"Well: {WEATHER}", []),
    ("{", f"{WEATHER}\nThat was it.", "That was it.", [PARIS]),
    ("[", "[1] is a list", "[1] is a list", []),
    ("{", "  ", "  ", []),
]  # fmt: skip


@pytest.mark.parametrize(("marker", "text", "content", "calls"), CASES)
def test_calls_and_content(marker: str, text: str, content: str, calls: list[tuple[str, object]]) -> None:
    assert read(marker, text) == (content, calls)
    assert read(marker, text, list(range(len(text)))) == (content, calls)


@given(st.sampled_from(CASES), st.lists(st.integers(0, 200)))
def test_the_cuts_make_no_difference(case: tuple[str, str, str, list[tuple[str, object]]], cuts: list[int]) -> None:
    marker, text, content, calls = case
    assert read(marker, text, cuts) == (content, calls)


words = st.sampled_from([H, C, WEATHER, "{", "}", "[", "]", '"', "\\", " ", "\n", "get_time", "x", H[:4], C[:6], ";"])


@given(st.sampled_from([H, "{", M]), st.lists(words, max_size=10), st.lists(st.integers(0, 200)))
def test_any_text_is_read_alike_and_only_calls_leave_it(marker: str, parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    content, calls = read(marker, text)
    assert read(marker, text, cuts) == (content, calls)
    if not calls:
        assert content == text
    rest = iter(text)
    assert all(character in rest for character in content)  # content is the text with pieces left out
    spelt = sum(len(re.sub(r"\s", "", json.dumps(arguments))) for _, arguments in calls)
    assert len(re.sub(r"\s", "", content)) + spelt <= len(text)


PLAIN = [
    ("functionary-3.2", ">>>all\nHi >>> there", "Hi >>> there", []),
    ("functionary-3.2", '>>>all\nWait.>>>get_weather\n{"city": "Paris"}', "Wait.", [PARIS]),
    ("command-r7b", "<|START_RESPONSE|>Hi<|END_RESPONSE|>", "Hi", []),
    ("kimi-k3", "<|open|>response<|sep|>Hi<|close|>response<|sep|><|close|>message<|sep|>", "Hi", []),
    ("qwen3-coder", "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
     "", [PARIS]),
    ("llama3", '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}', "", [PARIS]),
    ("llama4", "[get_weather(city='Paris')]", "", [PARIS]),
    ("llama4", "[1, 2] is a list", "[1, 2] is a list", []),
    ("glm", "<tool_call>nothing\n<arg_key>a</arg_key>\n<arg_value>b</arg_value>\n</tool_call>",
     "<tool_call>nothing\n<arg_key>a</arg_key>\n<arg_value>b</arg_value>\n</tool_call>", []),
    ("gemma4", '<|tool_call>call:write{a:<|"|>x', '<|tool_call>call:write{a:<|"|>x', []),
    ("lfm2", "<|tool_call_start|>[get_weather(city=", "<|tool_call_start|>[get_weather(city=", []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "content", "calls"), PLAIN)
def test_what_stands_around_an_answer(name: str, text: str, content: str, calls: list[tuple[str, object]]) -> None:
    for cuts in ([], list(range(len(text))), *([cut] for cut in range(1, len(text)))):
        assert read(BY_NAME[name], text, cuts) == (content, calls)


def test_ids_are_call_and_eight_characters() -> None:
    (call,) = CallCounter().number([("f", {})])
    assert re.fullmatch(r"call_[a-z0-9]{8}", call.id)
    assert call == ToolCall("f", {}, call.id, 0)


def test_an_unfinished_call_is_told() -> None:
    parser = tool_parser(H, TOOLS)
    parser.feed(f"a {H}")
    assert parser.in_call
    parser.feed(WEATHER)
    assert not parser.in_call


def test_deep_nesting_is_no_call_and_no_crash() -> None:
    deep = '{"name": "write", "arguments": {"a": ' + "[" * 200_000 + "]" * 200_000 + "}}"
    assert read(H, H + deep + C) == (H + deep + C, [])


def test_long_arguments_are_scanned_once() -> None:
    parser = tool_parser(H, TOOLS)
    parser.feed(H + '{"name": "write", "arguments": {"text": "')
    for _ in range(5000):
        assert parser.feed("some code {} ") == []
    (chunk,) = parser.feed('"}}')
    assert chunk.tool_calls[0].arguments == {"text": "some code {} " * 5000}


def test_the_scanner_waits_behind_a_backslash() -> None:
    scanner = JsonScanner()
    assert scanner.end('{"a\\') == -1
    assert scanner.end('{"a\\"') == -1
    assert scanner.end('{"a\\""}x') == 7


def test_one_unknown_call_among_known_ones_makes_the_whole_text_content() -> None:
    assert read_calls(f'[{WEATHER}, {{"name": "nope", "arguments": {{}}}}]', TOOLS) is None


def test_closing_markers() -> None:
    assert closing_marker("<tool_call>") == "</tool_call>"
    assert closing_marker("[TOOL_CALLS]") == "[/TOOL_CALLS]"
    assert closing_marker("<|START_ACTION|>") == "<|END_ACTION|>"
    assert closing_marker("<|python_tag|>") == ""
    assert closing_marker("Action:") == ""
