"""The official ``ollama`` package, sync and async, against the real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ollama
import pytest
from parrot import TEXT, write_parrot

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
}


@pytest.fixture
def client(url: str) -> Iterator[ollama.Client]:
    found = ollama.Client(url)
    yield found
    found.close()


def get_weather(city: str, days: int) -> str:
    """What the weather will be like.

    Args:
        city: The name of the city
        days: How many days ahead
    """
    return f"sunny in {city} for {days} days"


def get_time(zone: str) -> str:
    """What time it is."""
    return f"noon in {zone}"


def test_list_and_show(client: ollama.Client) -> None:
    models = {model.model: model for model in client.list().models}
    assert set(models) >= {"guide:latest", "guide:think", "parrot:latest"}
    guide = models["guide:latest"]
    assert guide.modified_at is not None
    assert guide.modified_at < datetime.now(UTC)
    assert guide.details is not None
    assert (guide.details.family, guide.details.quantization_level) == ("llama", "Q8_0")
    shown = client.show("guide:think")
    assert set(shown.capabilities or ()) == {"completion", "tools", "thinking"}
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] >= 8192


def test_chat_whole_and_in_pieces(client: ollama.Client) -> None:
    whole = client.chat("parrot", HI)
    assert (whole.message.content, whole.done_reason, whole.eval_count) == (TEXT, "stop", 14)
    pieces = list(client.chat("parrot", HI, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == TEXT
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) > 5
    assert [piece.eval_count for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].prompt_eval_count == whole.prompt_eval_count


def test_a_tool_call_and_its_result(client: ollama.Client) -> None:
    answer = client.chat("parrot", HI, tools=[get_weather, get_time])
    calls = answer.message.tool_calls or []
    assert [(call.function.name, dict(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "Madrid", "days": 3}),
        ("get_time", {"zone": "CET"}),
    ]
    results = [{"role": "tool", "tool_name": c.function.name, "content": "sunny"} for c in calls]
    told = client.chat("parrot", [*HI, answer.message, *results], tools=[get_weather, get_time])
    assert told.message.content == "It is sunny."

    pieces = list(client.chat("parrot", HI, tools=[get_weather, get_time], stream=True))
    streamed = [call for piece in pieces for call in piece.message.tool_calls or []]
    assert streamed == calls
    assert "".join(piece.message.content or "" for piece in pieces) == ""


def test_the_guide_takes_tools_and_their_results(client: ollama.Client) -> None:
    question = [{"role": "user", "content": "What is the weather in Madrid?"}]
    answer = client.chat("guide", question, tools=[get_weather], options={"num_predict": 100})
    assert answer.message.tool_calls or answer.message.content
    call = {"function": {"name": "get_weather", "arguments": {"city": "Madrid", "days": 1}}}
    talk: list[dict[str, Any]] = [
        *question,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_name": "get_weather", "content": get_weather("Madrid", 1)},
    ]
    told = client.chat("guide", talk, tools=[get_weather], options={"num_predict": 100})
    assert (told.prompt_eval_count or 0) > (answer.prompt_eval_count or 0)


def test_thinking_is_on_unless_refused(client: ollama.Client) -> None:
    question = [{"role": "user", "content": "What is a Modelfile?"}]
    answer = client.chat("guide:think", question, options={"num_predict": 300})
    assert answer.message.thinking
    assert answer.message.content
    assert "think>" not in answer.message.content
    assert client.chat("guide:think", question, think=False).message.thinking is None
    pieces = list(client.chat("guide:think", question, think=True, stream=True, options={"num_predict": 300}))
    kinds = [bool(piece.message.thinking) for piece in pieces[:-1]]
    assert kinds == sorted(kinds, reverse=True), "thinking comes first"
    assert "".join(piece.message.thinking or "" for piece in pieces) == answer.message.thinking
    with pytest.raises(ollama.ResponseError, match='"guide" does not support thinking') as caught:
        client.chat("guide", question, think=True)
    assert caught.value.status_code == 400


def test_generate_goes_on_from_a_context(client: ollama.Client) -> None:
    first = client.generate("guide", "hello", options={"num_predict": 8})
    assert first.context
    again = client.generate("guide", "and you?", context=first.context, options={"num_predict": 8})
    alone = client.generate("guide", "and you?", options={"num_predict": 8})
    assert again.context is not None
    assert list(again.context)[: len(first.context)] == list(first.context)
    assert (again.prompt_eval_count or 0) > (alone.prompt_eval_count or 0)
    pieces = [piece.response or "" for piece in client.generate("parrot", "x<|say|>", raw=True, stream=True)]
    assert "".join(pieces) == TEXT


def test_logprobs(client: ollama.Client) -> None:
    answer = client.generate("guide", "hello", logprobs=True, top_logprobs=2, options={"num_predict": 4})
    assert answer.logprobs
    assert len(answer.logprobs) == answer.eval_count
    for item in answer.logprobs:
        assert item.logprob <= 0
        assert item.top_logprobs is not None
        assert len(item.top_logprobs) == 2


def test_json_by_a_schema(client: ollama.Client) -> None:
    for answer in (
        client.chat("guide", [{"role": "user", "content": "Ana is 30"}], format=SCHEMA).message.content,
        client.generate("guide", "Ana is 30", format=SCHEMA).response,
    ):
        found = json.loads(answer or "")
        assert (type(found["name"]), type(found["age"])) == (str, int)
        assert len(found["name"]) <= 20
        assert 0 <= found["age"] <= 150


def test_embeddings(client: ollama.Client) -> None:
    single = client.embed("guide", "hello").embeddings
    batch = client.embed("guide", ["hello", "something else"]).embeddings
    assert (len(single), len(batch)) == (1, 2)
    assert list(batch[0]) == pytest.approx(list(single[0]), abs=2e-3)
    assert sum(x * x for x in batch[1]) == pytest.approx(1, abs=1e-3)
    assert len(client.embed("guide", "hello", dimensions=16).embeddings[0]) == 16
    assert len(client.embeddings("guide", "hello").embedding) == len(single[0])


def test_a_models_life(client: ollama.Client) -> None:
    done = client.create(
        "mine", from_="guide", system="Be brief.", license="MIT", parameters={"temperature": 0.5, "stop": ["a", "b"]},
        messages=HI, template="{{ .System }} {{ .Prompt }}",
    )  # fmt: skip
    assert done.status == "success"
    shown = client.show("mine")
    assert (shown.license or "").endswith("\nMIT"), "behind that of the model it is made from"
    assert shown.template == "{{ .System }} {{ .Prompt }}"
    assert "temperature                    0.5" in (shown.parameters or "")
    states = [piece.status for piece in client.create("mine", from_="mine", system="Be long.", stream=True)]
    assert states[-1] == "success"
    assert client.copy("mine", "yours").status == "success"
    assert client.show("yours").template == shown.template
    assert client.delete("mine").status == client.delete("yours").status == "success"
    with pytest.raises(ollama.ResponseError, match="model 'mine' not found") as caught:
        client.delete("mine")
    assert caught.value.status_code == 404


def test_loaded_and_unloaded(client: ollama.Client) -> None:
    loaded = client.generate("parrot", "", keep_alive="10m")
    assert loaded.done_reason == "load"
    entry = next(model for model in client.ps().models if model.model == "parrot:latest")
    assert entry.expires_at is not None
    assert 590 < (entry.expires_at - datetime.now(UTC)).total_seconds() <= 600
    for alive in (0.0, "0", 0):
        client.generate("parrot", "")
        assert client.generate("parrot", "", keep_alive=alive).done_reason == "unload"
        assert "parrot:latest" not in {model.model for model in client.ps().models}


def test_pull_of_what_is_nowhere(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="LLAMADA_REGISTRIES"):
        client.pull("far.example/no/such-model")
    with pytest.raises(ollama.ResponseError, match="invalid model name"):
        list(client.pull("no such model", stream=True))


def test_a_gguf_from_its_bytes(client: ollama.Client, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    digest = client.create_blob(tmp_path / "broken.gguf")
    with pytest.raises(ollama.ResponseError):
        client.create("broken", files={"broken.gguf": digest})


async def test_async(url: str) -> None:
    client = ollama.AsyncClient(url)
    try:
        answers = await asyncio.gather(*(client.chat("parrot", HI) for _ in range(8)))
        assert {answer.message.content for answer in answers} == {TEXT}
        pieces = [piece async for piece in await client.chat("parrot", HI, stream=True)]
        assert "".join(piece.message.content or "" for piece in pieces) == TEXT
        assert (await client.generate("guide", "hi", options={"num_predict": 3})).eval_count
        assert len((await client.embed("guide", ["a", "b"])).embeddings) == 2
        assert (await client.list()).models
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.chat("nobody", HI)
    finally:
        await client.close()


async def test_async_blobs_come_in_chunks(url: str, tmp_path: Path) -> None:
    """Without Content-Length, as this client sends them."""
    write_parrot(tmp_path / "again.gguf")
    client = ollama.AsyncClient(url)
    digest = await client.create_blob(tmp_path / "again.gguf")
    assert (await client.create("again", files={"again.gguf": digest})).status == "success"
    assert (await client.chat("again", HI)).message.content == TEXT
    await client.delete("again")
    await client.close()
