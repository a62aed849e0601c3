"""Messages made whole: images, results of tools, and the keys of tools that models get to see."""

from __future__ import annotations

from typing import Any

from modelfiles.conversation import complete, place_images, strip_thinking, tool_wire


def test_missing_keys_are_filled() -> None:
    empty: list[dict[str, Any]] = [{"role": "USER"}, {"role": "assistant", "content": None, "images": None}]
    assert complete(empty) == [
        {
            "role": role,
            "content": "",
            "thinking": "",
            "images": 0,
            "tool_calls": [],
            "tool_name": "",
            "tool_call_id": "",
        }
        for role in ("user", "assistant")
    ]


def test_images_are_numbered_over_the_conversation() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "see [img] and [img]", "images": 3},
        {"role": "user", "content": "this", "images": ["a"]},
    ]
    assert [m["content"] for m in complete(messages)] == ["[img-2]see [img-0] and [img-1]", "[img-3]this"]
    assert complete(messages, "<|{}|>")[1]["content"] == "<|3|>this"
    assert place_images("a", []) == "a"


def call(name: str, call_id: str = "") -> dict[str, Any]:
    return {"id": call_id, "function": {"name": name, "arguments": {}}}


def result(**keys: str) -> dict[str, Any]:
    return {"role": "tool", "content": "r", **keys}


def ties(*messages: dict[str, Any]) -> list[tuple[str, str]]:
    return [(m["tool_name"], m["tool_call_id"]) for m in complete(messages) if m["role"] == "tool"]


def test_results_find_their_calls() -> None:
    calls = {"role": "assistant", "tool_calls": [call("f", "x"), call("g", "y")]}
    assert ties(calls, result(tool_call_id="y"), result(tool_call_id="x")) == [("g", "y"), ("f", "x")]
    assert ties(calls, result(tool_name="g"), result(tool_name="f")) == [("g", "y"), ("f", "x")]
    assert ties(calls, result(), result(), result()) == [("f", "x"), ("g", "y"), ("", "")]
    assert ties(calls, result(tool_call_id="y"), result()) == [("g", "y"), ("f", "x")]
    assert ties(calls, result(name="g")) == [("g", "y")]
    assert ties(calls, result(tool_call_id="unknown"), result(tool_name="h")) == [("", "unknown"), ("h", "")]


def test_calls_without_ids_get_some() -> None:
    calls = {"role": "assistant", "tool_calls": [call("f"), call("f")]}
    whole = complete([calls, calls])
    assert [c["id"] for m in whole for c in m["tool_calls"]] == ["call_0", "call_1", "call_2", "call_3"]
    assert [c["function"]["index"] for c in whole[0]["tool_calls"]] == [0, 1]
    assert ties(calls, result(), result()) == [("f", "call_0"), ("f", "call_1")]


def test_the_given_messages_are_left_alone() -> None:
    messages: list[dict[str, Any]] = [{"role": "assistant", "tool_calls": [call("f")]}, result()]
    complete(messages)
    assert messages == [{"role": "assistant", "tool_calls": [call("f")]}, result()]


def test_tools_keep_what_ollama_keeps() -> None:
    tool = {
        "function": {
            "strict": True,
            "parameters": {
                "additionalProperties": False,
                "properties": {
                    "z": {"type": ["string"], "default": "x", "minLength": 1, "description": "Z"},
                    "a": {"description": "A", "type": ["string", "null"], "enum": ["p", 1]},
                    "o": {"type": "object", "required": ["q"], "properties": {"q": {"type": "integer", "format": "i"}}},
                    "l": {"type": "array", "items": {"type": "object", "additionalProperties": {"b": 1, "a": 2}}},
                    "n": {"anyOf": [{"type": "number", "minimum": 1}, {"const": 3}]},
                    "e": {},
                },
                "required": ["z"],
                "type": "object",
                "$defs": {"y": 1, "x": 2},
            },
            "description": "D",
            "name": "f",
        },
        "type": "function",
    }
    wire = tool_wire(tool)
    assert wire == {
        "type": "function",
        "function": {
            "name": "f",
            "description": "D",
            "parameters": {
                "type": "object",
                "$defs": {"x": 2, "y": 1},
                "required": ["z"],
                "properties": {
                    "z": {"type": "string", "description": "Z"},
                    "a": {"type": ["string", "null"], "description": "A", "enum": ["p", 1]},
                    "o": {"type": "object", "properties": {"q": {"type": "integer"}}, "required": ["q"]},
                    "l": {"type": "array", "items": {"additionalProperties": {"a": 2, "b": 1}, "type": "object"}},
                    "n": {"anyOf": [{"type": "number"}, {}]},
                    "e": {},
                },
            },
        },
    }
    function = wire["function"]
    assert list(function) == ["name", "description", "parameters"]
    assert list(function["parameters"]) == ["type", "$defs", "required", "properties"]
    assert list(function["parameters"]["properties"]) == ["z", "a", "o", "l", "n", "e"]
    assert list(function["parameters"]["properties"]["l"]["items"]) == ["additionalProperties", "type"]
    assert tool_wire({}) == {"type": "", "function": {"name": "", "parameters": {"type": "", "properties": {}}}}


def test_strip_thinking() -> None:
    tags = ("<think>", "</think>")
    assert strip_thinking("<think>a</think>\n\nb", tags) == "b"
    assert strip_thinking("b </think> c", tags) == "b </think> c"
    assert strip_thinking("b", tags) == "b"
