"""The Responses of the official ``openai`` package, and several answers at once, against the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from parrot import TEXT

HI: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [
    {"type": "function", "name": name, "description": "x", "parameters": {"type": "object"}, "strict": False}
    for name in ("get_weather", "get_time")
]


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as found:
        yield found


def test_response(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="parrot", input="hi")
    assert (answer.output_text, answer.status) == (TEXT, "completed")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + 14
    cut = client.responses.create(model="guide", input="hi", max_output_tokens=1)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model="parrot", input="hi") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == TEXT
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_by_the_id_of_the_response_before(client: openai.OpenAI, streamed: bool) -> None:
    if streamed:
        with client.responses.stream(model="parrot", input="hi", tools=TOOLS) as stream:
            answer: Any = stream.get_final_response()
    else:
        answer = client.responses.create(model="parrot", input="hi", tools=TOOLS)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    assert json.loads(calls[0].arguments) == {"city": "Madrid", "days": 3}
    results: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    told = client.responses.create(model="parrot", input=results, tools=TOOLS, previous_response_id=answer.id)
    assert told.output_text == "It is sunny."
    items: Any = [*HI, *[call.model_dump() for call in calls], *results]
    assert client.responses.create(model="parrot", input=items, tools=TOOLS).output_text == "It is sunny."


def test_reasoning(client: openai.OpenAI) -> None:
    answer: Any = client.responses.create(model="guide:think", input="hi", max_output_tokens=400)
    assert answer.output[0].type == "reasoning"
    assert answer.output[0].summary[0].text
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens <= answer.usage.output_tokens


def test_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": ["red", "blue"]}}, "required": ["n"]}
    text: Any = {"format": {"type": "json_schema", "name": "colour", "schema": schema}}
    answer = client.responses.create(model="guide", input="hi", text=text)
    assert json.loads(answer.output_text)["n"] in ("red", "blue")


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nobody' not found"):
        client.responses.create(model="nobody", input="hi")
    with pytest.raises(openai.BadRequestError, match="'resp_x' not found"):
        client.responses.create(model="guide", input="hi", previous_response_id="resp_x")
    with pytest.raises(openai.BadRequestError, match="background is not supported"):
        client.responses.create(model="guide", input="hi", background=True)


def test_several_answers(client: openai.OpenAI) -> None:
    wanted: Any = {"model": "guide", "messages": HI, "n": 3, "seed": 5, "max_tokens": 12}
    answer = client.chat.completions.create(**wanted)
    texts = [choice.message.content for choice in answer.choices]
    assert ([choice.index for choice in answer.choices], len(set(texts)) > 1) == ([0, 1, 2], True)
    again = client.chat.completions.create(**wanted, stream=True)
    found = ["", "", ""]
    for piece in again:
        for choice in piece.choices:
            found[choice.index] += choice.delta.content or ""
    assert found == texts
    alone = client.chat.completions.create(**wanted | {"n": 1, "seed": 6})
    assert alone.choices[0].message.content == texts[1]


def test_completions_with_echo_and_logprobs(client: openai.OpenAI) -> None:
    wanted: Any = {"model": "guide", "prompt": "hello", "max_tokens": 4, "temperature": 0}
    plain = client.completions.create(**wanted).choices[0].text
    assert client.completions.create(**wanted, echo=True, n=2).choices[1].text == f"hello{plain}"
    choice = client.completions.create(**wanted, logprobs=2).choices[0]
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == plain
    assert all(len(found) == 2 for found in choice.logprobs.top_logprobs or [])


def test_logit_bias(client: openai.OpenAI, url: str) -> None:
    wanted: Any = {"model": "guide", "messages": HI, "max_tokens": 1, "temperature": 0, "logprobs": True}
    first = client.chat.completions.create(**wanted).choices[0].message.content or ""
    (token,) = client.post(f"{url}/api/tokenize", body={"model": "guide", "text": first}, cast_to=dict)["tokens"]
    other = client.chat.completions.create(**wanted, logit_bias={str(token): -100}).choices[0].message.content
    assert other != first


def test_models_say_what_they_can_do(client: openai.OpenAI) -> None:
    found: Any = client.models.retrieve("guide")
    assert found.context_length > 0
    assert "completion" in found.capabilities


def test_tokens_there_and_back(client: openai.OpenAI, url: str) -> None:
    for text in ("Hello, world!", "añ🦙 <|turn|>"):
        found = client.post(f"{url}/api/tokenize", body={"model": "parrot", "text": text}, cast_to=dict)["tokens"]
        back = client.post(f"{url}/api/detokenize", body={"model": "parrot", "tokens": found}, cast_to=dict)
        assert back["text"] == text
    with pytest.raises(openai.BadRequestError):
        client.post(f"{url}/api/detokenize", body={"model": "parrot", "tokens": [-1]}, cast_to=dict)
