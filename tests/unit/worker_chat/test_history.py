"""Tool results find their call; images of a model that cannot see become tags."""

from __future__ import annotations

import pytest

from server.types import Message, ToolCall
from server.worker.chat.history import as_json, name_tool_results, place_images

CALLS = (ToolCall("get_weather", {"city": "Paris"}, "c1"), ToolCall("get_time", {}, "c2"))
WITHOUT_IDS = (ToolCall("get_weather", {"city": "Paris"}), ToolCall("get_time", {}))


def results(calls: tuple[ToolCall, ...], *tools: Message) -> list[tuple[str, str]]:
    talk = [Message("user", "?"), Message("assistant", tool_calls=calls), *tools, Message("user", "!")]
    named = name_tool_results(talk)
    assert [m for m in named if m.role != "tool"] == [m for m in talk if m.role != "tool"]
    assert [m.content for m in named] == [m.content for m in talk]
    return [(m.tool_name, m.tool_call_id) for m in named if m.role == "tool"]


BOTH = [("get_weather", "c1"), ("get_time", "c2")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"tool_name": "get_weather"}, {"tool_name": "get_time"}], BOTH),
        ([{"tool_name": "get_time"}, {"tool_name": "get_weather"}], BOTH[::-1]),
        ([{"tool_call_id": "c2"}, {"tool_call_id": "c1"}], BOTH[::-1]),
        ([{}, {}], BOTH),
        ([{"tool_call_id": "c2"}, {}], BOTH[::-1]),
        ([{}, {}, {}], [*BOTH, ("", "")]),
        ([{"tool_name": "other"}, {}], [("other", ""), ("get_weather", "c1")]),
        ([{"tool_call_id": "c9"}], [("get_weather", "c9")]),
    ],
)
def test_results_are_named(given: list[dict[str, str]], expected: list[tuple[str, str]]) -> None:
    assert results(CALLS, *(Message("tool", "1", **one) for one in given)) == expected


def test_results_of_calls_without_ids_are_named_in_order() -> None:
    assert results(WITHOUT_IDS, Message("tool", "1"), Message("tool", "2")) == [("get_weather", ""), ("get_time", "")]


def test_each_round_has_its_own_calls() -> None:
    talk = [
        Message("assistant", tool_calls=WITHOUT_IDS),
        Message("tool", "1"),
        Message("assistant", tool_calls=(ToolCall("write", {}),)),
        Message("tool", "2"),
    ]
    assert [m.tool_name for m in name_tool_results(talk) if m.role == "tool"] == ["get_weather", "write"]


def test_two_calls_of_one_tool_are_answered_one_after_the_other() -> None:
    calls = (ToolCall("f", {"n": 1}, "a"), ToolCall("f", {"n": 2}, "b"))
    both = results(calls, Message("tool", "1", tool_name="f"), Message("tool", "2", tool_name="f"))
    assert both == [("f", "a"), ("f", "b")]


def test_images_become_numbered_tags() -> None:
    placed = place_images(
        [
            Message("user", "look", images=(b"a", b"b")),
            Message("user", "none"),
            Message("user", "this [img] and [img]", images=(b"c", b"d", b"e")),
        ]
    )
    assert [m.content for m in placed] == ["[img-0][img-1]look", "none", "[img-4]this [img-2] and [img-3]"]
    assert not any(m.images for m in placed)


def test_a_message_is_spelt_as_the_api_does() -> None:
    assert as_json(Message("user", "hi")) == {"role": "user", "content": "hi"}
    call = {"id": "c1", "function": {"name": "f", "arguments": {"b": 1, "a": 2}, "index": 0}}
    message = Message("assistant", thinking="hm", tool_calls=(ToolCall("f", {"b": 1, "a": 2}, "c1", 0),))
    assert as_json(message) == {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]}
    assert as_json(Message("tool", "1", tool_name="f", tool_call_id="c1")) == {
        "role": "tool", "content": "1", "tool_name": "f", "tool_call_id": "c1"}  # fmt: skip
