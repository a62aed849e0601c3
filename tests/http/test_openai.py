"""OpenAI's shapes on the wire, as Ollama's translator writes them."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from server.errors import RunnerError
from server.types import ChatPrompt, Chunk, Final, Logprob, ToolCall

HI = [{"role": "user", "content": "Hi"}]


async def post(client: Any, path: str, **body: Any) -> tuple[int, str, str]:
    async with client.post(f"/v1/{path}", data=json.dumps(body)) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


def events(text: str) -> list[Any]:
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n")[:-2]]


async def test_chat_whole(client: Any) -> None:
    status, kind, text = await post(client, "chat/completions", model="nano", messages=HI)
    assert (status, kind, text[-1]) == (200, "application/json", "\n")
    found = json.loads(text)
    assert list(found) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert found["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    ]
    assert found["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


async def test_chat_stream(client: Any) -> None:
    status, kind, text = await post(
        client, "chat/completions", model="nano", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    assert (status, kind) == (200, "text/event-stream")
    found = events(text)
    assert len({event["id"] for event in found}) == 1
    assert [event["choices"] for event in found] == [
        [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        [],
    ]
    assert found[-1]["usage"]["total_tokens"] == 9
    assert all("usage" not in event for event in found[:-1])


async def test_thinking_tools_logprobs(client: Any, runner: Any) -> None:
    runner.chunks = (
        Chunk(thinking="hm"),
        Chunk(tool_calls=(ToolCall("f", {"a": "<"}, "call_1", 0),), logprobs=(Logprob("x", (120,), -1.0),)),
        Chunk(final=Final("stop", 1, 0, 1)),
    )
    tool = {"type": "function", "function": {"name": "f"}}
    wanted = {"model": "nano-tools", "messages": HI, "tools": [tool]}
    _, _, text = await post(client, "chat/completions", **wanted, stream=True)
    first, second, last = (event["choices"][0] for event in events(text))
    assert first["delta"] == {"role": "assistant", "reasoning": "hm"}
    call = {"id": "call_1", "index": 0, "type": "function", "function": {"name": "f", "arguments": '{"a":"\\u003c"}'}}
    assert second["delta"] == {"tool_calls": [call]}
    assert second["logprobs"] == {"content": [{"token": "x", "logprob": -1.0, "bytes": [120]}]}
    assert last["finish_reason"] == "tool_calls"
    _, _, text = await post(client, "chat/completions", **wanted)
    choice = json.loads(text)["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "", "reasoning": "hm", "tool_calls": [call]}
    assert choice["finish_reason"] == "tool_calls"


async def test_what_reaches_the_runner(client: Any, runner: Any) -> None:
    image = base64.b64encode(b"png").decode()
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": f"data:image/png;base64,{image}"}]
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]
    schema = {"type": "object"}
    await post(
        client, "chat/completions", model="nano", max_completion_tokens=5, stop="END", seed=3, frequency_penalty=0.5,
        messages=[{"role": "user", "content": parts}, {"role": "assistant", "tool_calls": calls},
                  {"role": "tool", "content": "42", "tool_call_id": "c1"}],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )  # fmt: skip
    generation = runner.generations[0]
    assert isinstance(generation.prompt, ChatPrompt)
    text, picture, call, result = generation.prompt.messages
    assert (text.content, picture.images, call.tool_calls[0].arguments) == ("look", (b"png",), {"x": 1})
    assert (result.tool_name, result.tool_call_id) == ("f", "c1")
    assert (generation.format, generation.limits.num_predict, generation.limits.stop) == (schema, 5, ("END",))
    sampling = generation.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.frequency_penalty) == (1.0, 1.0, 3, 0.5)


async def test_completions(client: Any) -> None:
    _, _, text = await post(client, "completions", model="nano", prompt="x")
    found = json.loads(text)
    assert list(found) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert found["choices"] == [{"text": "Hello", "index": 0, "finish_reason": "stop"}]
    _, _, text = await post(
        client, "completions", model="nano", prompt="x", stream=True, stream_options={"include_usage": True}
    )
    found = events(text)
    assert list(found[0]) == ["id", "object", "created", "choices", "model", "system_fingerprint", "usage"]
    assert [event["usage"]["total_tokens"] for event in found] == [0, 0, 0, 9]
    assert [event["choices"] for event in found][-2:] == [[{"text": "", "index": 0, "finish_reason": "stop"}], []]
    _, _, text = await post(client, "completions", model="nano", prompt="")
    assert json.loads(text)["choices"][0]["finish_reason"] == "load"


async def test_embeddings(client: Any) -> None:
    _, _, text = await post(client, "embeddings", model="nano-embed", input=["a", "b"])
    found = json.loads(text)
    assert [row["embedding"] for row in found["data"]] == [[0.6, 0.8]] * 2
    assert (found["usage"], text[-1]) == ({"prompt_tokens": 6, "total_tokens": 6}, "\n")
    _, _, text = await post(client, "embeddings", model="nano-embed", input="a", encoding_format="base64")
    data = base64.b64decode(json.loads(text)["data"][0]["embedding"])
    assert struct.unpack("<2f", data) == pytest.approx((0.6, 0.8))


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("chat/completions", {}, 400, "[] is too short - 'messages'"),
        ("chat/completions", {"model": "nano", "messages": HI, "reasoning_effort": "zzz"}, 400,
         'invalid reasoning value: "zzz" '
         '(must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none")'),
        ("chat/completions", {"model": "nano", "messages": [{"role": "user"}]}, 400,
         "invalid message content type: <nil>"),
        ("chat/completions", {"model": "nano", "messages": [{"content": [{"type": "image_url",
         "image_url": {"url": "https://x/y.png"}}]}]}, 400,
         "image URLs are not currently supported, please use base64 encoded data instead"),
        ("chat/completions", {"model": "nano", "messages": [{"content": [{"type": "video"}]}]}, 400,
         "invalid message format"),
        ("chat/completions", {"model": "nano", "messages": HI, "n": 2}, 400,
         "n must be 1: one answer per request is given here"),
        ("completions", {"model": "nano", "prompt": ["a"]}, 400,
         "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string"),
        ("embeddings", {"model": "nano-embed"}, 400, "invalid input"),
        ("embeddings", {"model": "nano-embed", "input": "x", "encoding_format": "hex"}, 400,
         "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64']."),
    ],
)  # fmt: skip
async def test_refusals(client: Any, path: str, body: dict[str, Any], status: int, text: str) -> None:
    found, kind, answer = await post(client, path, **body)
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
    assert (found, json.loads(answer)) == (status, {"error": error})
    assert (kind, answer[-1]) == ("application/json; charset=utf-8", "}")


async def test_errors_of_the_hallway(client: Any, runner: Any) -> None:
    status, kind, text = await post(client, "chat/completions", model="nope", messages=HI)
    assert (status, kind, text[-1]) == (404, "application/json", "\n")
    assert json.loads(text)["error"] == {
        "message": "model 'nope' not found", "type": "not_found_error", "param": None, "code": None,
    }  # fmt: skip
    async with client.post("/v1/chat/completions", data=b"") as answer:
        assert (await answer.json())["error"]["message"] == "EOF"
    runner.chunks = (Chunk("a"), RunnerError("it broke"))
    _, _, text = await post(client, "chat/completions", model="nano", messages=HI, stream=True)
    assert json.loads(text.split("\n\n")[-2].removeprefix("data: "))["error"]["message"] == "it broke"
    assert "[DONE]" not in text
