"""The official ``openai`` package against the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from parrot import TEXT

HI: Any = [{"role": "user", "content": "hi"}]


def tool(name: str) -> Any:
    return {"type": "function", "function": {"name": name, "description": "x", "parameters": {"type": "object"}}}


TOOLS: Any = [tool("get_weather"), tool("get_time")]


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as found:
        yield found


def test_models(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert set(models) >= {"guide:latest", "parrot:latest"}
    assert all(model.created > 0 for model in models.values())
    assert client.models.retrieve("guide").object == "model"


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="parrot", messages=HI)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    short = client.chat.completions.create(model="guide", messages=HI, max_tokens=1, temperature=0)
    assert short.choices[0].finish_reason == "length"


def test_stream_with_usage(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    pieces = list(client.chat.completions.create(model="parrot", messages=HI, stream=True, stream_options=options))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == TEXT
    assert len({piece.id for piece in pieces}) == 1
    assert [piece.choices[0].finish_reason for piece in pieces[:-1]][-1] == "stop"
    assert pieces[-1].choices == []
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == 14
    assert all(piece.usage is None for piece in pieces[:-1])


@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_their_results(client: openai.OpenAI, stream: bool) -> None:
    if stream:
        calls: dict[int, dict[str, Any]] = {}
        for piece in client.chat.completions.create(model="parrot", messages=HI, tools=TOOLS, stream=True):
            for call in piece.choices[0].delta.tool_calls or []:
                assert call.function is not None
                at = calls.setdefault(call.index, {"type": "function", "id": call.id, "function": {"arguments": ""}})
                at["function"]["name"] = call.function.name or at["function"]["name"]
                at["function"]["arguments"] += call.function.arguments or ""
            reason = piece.choices[0].finish_reason
        found = list(calls.values())
    else:
        choice = client.chat.completions.create(model="parrot", messages=HI, tools=TOOLS).choices[0]
        reason, found = choice.finish_reason, [call.model_dump() for call in choice.message.tool_calls or []]
    assert reason == "tool_calls"
    assert [call["function"]["name"] for call in found] == ["get_weather", "get_time"]
    assert json.loads(found[0]["function"]["arguments"]) == {"city": "Madrid", "days": 3}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in found]
    talk: Any = [*HI, {"role": "assistant", "tool_calls": found}, *results]
    told = client.chat.completions.create(model="parrot", messages=talk, tools=TOOLS)
    assert told.choices[0].message.content == "It is sunny."


def test_json_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": ["red", "blue"]}}, "required": ["n"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model="guide", messages=HI, response_format=wanted)
    assert json.loads(answer.choices[0].message.content or "")["n"] in ("red", "blue")


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="guide", prompt="hello", max_tokens=4, temperature=0)
    assert answer.choices[0].text
    pieces = list(client.completions.create(model="guide", prompt="hello", max_tokens=4, temperature=0, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == answer.choices[0].text


def test_embeddings_come_as_base64_unless_asked(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="guide", input=["hello", "world"])
    plain = client.embeddings.create(model="guide", input="hello", encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=2e-3)
    assert packed.usage.prompt_tokens > 0


def test_errors_have_their_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nobody' not found"):
        client.chat.completions.create(model="nobody", messages=HI)
    with pytest.raises(openai.NotFoundError):
        list(client.chat.completions.create(model="nobody", messages=HI, stream=True))
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="guide", messages=[])
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="guide", messages=HI, temperature=-1)


async def test_async(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        stream = await client.chat.completions.create(model="parrot", messages=HI, stream=True)
        assert "".join([piece.choices[0].delta.content or "" async for piece in stream]) == TEXT
