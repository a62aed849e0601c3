"""The official ``anthropic`` package against the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from parrot import TEXT

HI: Any = [{"role": "user", "content": "hi"}]


def tool(name: str) -> Any:
    return {"name": name, "description": "x", "input_schema": {"type": "object"}}


TOOLS: Any = [tool("get_weather"), tool("get_time")]


@pytest.fixture
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as found:
        yield found


def test_message(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model="parrot", max_tokens=100, messages=HI)
    assert [block.type for block in answer.content] == ["text"]
    assert answer.content[0].text == TEXT  # type: ignore[union-attr]
    assert (answer.stop_reason, answer.role, answer.type) == ("end_turn", "assistant", "message")
    assert answer._request_id is not None
    assert answer.usage.output_tokens == 14
    short = client.messages.create(model="guide", max_tokens=1, messages=HI)
    assert short.stop_reason == "max_tokens"


def test_stream(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="parrot", messages=HI).input_tokens
    with client.messages.stream(model="parrot", max_tokens=100, messages=HI) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert final.content[0].text == TEXT  # type: ignore[union-attr]
    assert (final.usage.input_tokens, final.usage.output_tokens) == (counted, 14)
    events = list(client.messages.create(model="parrot", max_tokens=100, messages=HI, stream=True))
    assert events[0].message.usage.input_tokens == counted  # type: ignore[union-attr]


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_and_their_results(client: anthropic.Anthropic, streamed: bool) -> None:
    wanted: Any = {"model": "parrot", "max_tokens": 100, "messages": HI, "tools": TOOLS}
    if streamed:
        with client.messages.stream(**wanted) as stream:
            answer: Any = stream.get_final_message()
    else:
        answer = client.messages.create(**wanted)
    assert answer.stop_reason == "tool_use"
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [
        ("get_weather", {"city": "Madrid", "days": 3}),
        ("get_time", {"zone": "CET"}),
    ]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    talk: Any = [*HI, {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    told: Any = client.messages.create(model="parrot", max_tokens=100, messages=talk, tools=TOOLS)
    assert told.content[0].text == "It is sunny."
    one: Any = client.messages.create(**wanted, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert [block.name for block in one.content if block.type == "tool_use"] == ["get_weather"]


def test_stop_sequences(client: anthropic.Anthropic) -> None:
    answer: Any = client.messages.create(model="parrot", max_tokens=100, messages=HI, stop_sequences=["three"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "three")
    assert answer.content[0].text == TEXT[: TEXT.index("three")]


def test_thinking(client: anthropic.Anthropic) -> None:
    wanted: Any = {"model": "guide:think", "max_tokens": 400, "messages": HI, "extra_body": {"options": {"seed": 1}}}
    thought: Any = client.messages.create(**wanted, thinking={"type": "adaptive"})
    assert thought.content[0].type == "thinking"
    assert thought.content[0].thinking
    plain = client.messages.create(**wanted, thinking={"type": "disabled"})
    assert "thinking" not in [block.type for block in plain.content]
    with client.messages.stream(**wanted, thinking={"type": "adaptive"}) as stream:
        final: Any = stream.get_final_message()
    assert final.content[0].thinking == thought.content[0].thinking


def test_structured_output_and_extras(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": ["red", "blue"]}}, "required": ["n"]}
    output: Any = {"format": {"type": "json_schema", "schema": schema}}
    extras: Any = {"num_ctx": 512, "keep_alive": "1m", "options": {"seed": 3}}
    answer: Any = client.messages.create(
        model="guide", max_tokens=100, messages=HI, output_config=output, extra_body=extras
    )
    assert json.loads(answer.content[0].text)["n"] in ("red", "blue")


def test_count_tokens(client: anthropic.Anthropic) -> None:
    plain = client.messages.count_tokens(model="guide", messages=HI).input_tokens
    longer = client.messages.count_tokens(model="guide", messages=HI, system="Be very kind, and short.").input_tokens
    assert 0 < plain < longer
    answer = client.messages.create(model="guide", max_tokens=1, messages=HI)
    assert answer.usage.input_tokens == plain
    words: Any = [{"role": "user", "content": "word " * 5000}]  # more than the window: counted, not cut
    assert client.messages.count_tokens(model="guide", messages=words).input_tokens > 5000


def test_errors_have_their_classes(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model 'nobody' not found"):
        client.messages.create(model="nobody", max_tokens=1, messages=HI)
    with pytest.raises(anthropic.BadRequestError, match="messages is required"):
        client.messages.create(model="guide", max_tokens=1, messages=[])
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(model="guide", max_tokens=1, messages=HI, temperature=-1)


async def test_async(url: str) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client,
        client.messages.stream(model="parrot", max_tokens=100, messages=HI) as stream,
    ):
        assert "".join([text async for text in stream.text_stream]) == TEXT
