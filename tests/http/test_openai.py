"""OpenAI's shapes on the wire, as Ollama's translator writes them."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from server.errors import RunnerError
from server.types import ChatPrompt, Chunk, Final, Logprob, ToolCall, ToolChoice

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


async def test_several_answers_whole(client: Any, runner: Any) -> None:
    _, _, text = await post(client, "chat/completions", model="nano", messages=HI, n=3, seed=7)
    found = json.loads(text)
    assert [(choice["index"], choice["message"]["content"]) for choice in found["choices"]] == [
        (0, "Hello"), (1, "Hello"), (2, "Hello"),
    ]  # fmt: skip
    assert found["usage"] == {"prompt_tokens": 7, "completion_tokens": 6, "total_tokens": 13}
    assert sorted(generation.sampling.seed for generation in runner.generations) == [7, 8, 9]
    assert runner.closed == 3
    _, _, text = await post(client, "completions", model="nano", prompt="x", n=2, echo=True, best_of=2)
    assert [choice["text"] for choice in json.loads(text)["choices"]] == ["xHello", "xHello"]


async def test_several_answers_streamed(client: Any) -> None:
    wanted = {"model": "nano", "stream": True, "n": 2, "stream_options": {"include_usage": True}}
    _, _, text = await post(client, "chat/completions", **wanted, messages=HI)
    found = events(text)
    assert len({event["id"] for event in found}) == 1
    for index in (0, 1):
        mine = [e["choices"][0] for e in found if e["choices"] and e["choices"][0]["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "Hello"
        assert [choice["finish_reason"] for choice in mine] == [None, None, "stop"]
        assert mine[0]["delta"]["role"] == "assistant"
    assert found[-1]["usage"]["completion_tokens"] == 4
    _, _, text = await post(client, "completions", **wanted, prompt="x", echo=True)
    pieces = [event["choices"][0] for event in events(text)[:-1]]
    assert "".join(piece["text"] for piece in pieces if piece["index"] == 1) == "xHello"


async def test_one_of_several_answers_fails(client: Any, runner: Any) -> None:
    runner.chunks = (Chunk("a"), RunnerError("it broke"))
    status, _, text = await post(client, "chat/completions", model="nano", messages=HI, n=2)
    assert (status, json.loads(text)["error"]["message"]) == (500, "it broke")
    _, _, text = await post(client, "chat/completions", model="nano", messages=HI, n=2, stream=True)
    assert json.loads(text.split("\n\n")[-2].removeprefix("data: "))["error"]["message"] == "it broke"
    assert runner.closed == 4


async def test_logprobs_of_completions(client: Any, runner: Any) -> None:
    first = Logprob("ab", (97, 98), -0.5, (Logprob("ab", (97, 98), -0.5), Logprob("x", (120,), -2.0)))
    runner.chunks = (Chunk("ab", logprobs=(first,)), Chunk("c", logprobs=(Logprob("c", (99,), -1.0),)),
                     Chunk(final=Final("stop", 1, 0, 2)))  # fmt: skip
    wanted = {"model": "nano", "prompt": "x", "logprobs": 2}
    _, _, text = await post(client, "completions", **wanted)
    expected = {
        "tokens": ["ab", "c"], "token_logprobs": [-0.5, -1.0], "top_logprobs": [{"ab": -0.5, "x": -2.0}, {}],
        "text_offset": [0, 2],
    }  # fmt: skip
    assert json.loads(text)["choices"][0]["logprobs"] == expected
    assert runner.generations[0].top_logprobs == 2
    _, _, text = await post(client, "completions", **wanted, stream=True)
    found = [event["choices"][0] for event in events(text)]
    assert [choice.get("logprobs", {}).get("text_offset") for choice in found] == [[0], [2], None]


async def test_extras_and_what_they_yield_to(client: Any, runner: Any, manager: Any) -> None:
    extras = {"options": {"temperature": 0.25, "top_k": 3, "seed": 1}, "num_ctx": 512, "keep_alive": -1}
    await post(client, "chat/completions", model="nano", messages=HI, **extras, seed=2, logit_bias={"5": -100})
    await post(client, "completions", model="nano", prompt="x", suffix="", **extras)
    await post(client, "embeddings", model="nano-embed", input="x", num_ctx=64, keep_alive=0)
    sampling, limits = runner.generations[0].sampling, runner.generations[0].limits
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.25, 1.0, 3, 2)
    assert (limits.num_ctx, sampling.logit_bias, runner.generations[1].sampling.seed) == (512, {5: -100.0}, 1)
    assert [lease[2] for lease in manager.leases] == [-1.0, -1.0, 0.0]
    assert runner.embedded[0]["num_ctx"] == 64


async def test_tool_choice(client: Any, runner: Any) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    wanted = {"model": "nano-tools", "messages": HI, "tools": [tool]}
    assert (await post(client, "chat/completions", **wanted, tool_choice="none"))[0] == 200
    assert (await post(client, "chat/completions", **wanted, tool_choice="auto"))[0] == 200
    assert [len(generation.prompt.tools) for generation in runner.generations] == [0, 1]
    named = {"type": "function", "function": {"name": "f"}}
    for choice in ("required", named):
        assert (await post(client, "chat/completions", **wanted, tool_choice=choice))[0] == 200
    forced = [generation.prompt.tool_choice for generation in runner.generations[2:]]
    assert forced == [ToolChoice("required"), ToolChoice("required", "f")]
    status, _, text = await post(
        client, "chat/completions", **wanted, tool_choice={"type": "function", "function": {"name": "g"}}
    )
    assert (status, '"g" is required' in json.loads(text)["error"]["message"]) == (400, True)


async def test_parallel_calls_can_be_switched_off(client: Any, runner: Any) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    calls = (ToolCall("f", {}, "c1", 0), ToolCall("f", {}, "c2", 1))
    runner.chunks = (Chunk(tool_calls=calls[:1]), Chunk(tool_calls=calls[1:]), Chunk(final=Final("stop", 1, 0, 9)))
    wanted = {"model": "nano-tools", "messages": HI, "tools": [tool], "parallel_tool_calls": False}
    _, _, text = await post(client, "chat/completions", **wanted)
    choice = json.loads(text)["choices"][0]
    assert ([call["id"] for call in choice["message"]["tool_calls"]], choice["finish_reason"]) == (["c1"], "tool_calls")


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
        ("chat/completions", {"model": "nano", "messages": HI, "n": 0}, 400, "n must be between 1 and 64"),
        ("completions", {"model": "nano", "prompt": "x", "n": 65}, 400, "n must be between 1 and 64"),
        ("chat/completions", {"model": "nano", "messages": HI, "functions": [{"name": "f"}]}, 400,
         "functions is not supported: give them as tools"),
        ("chat/completions", {"model": "nano", "messages": HI, "modalities": ["text", "audio"]}, 400,
         "modalities: only text is answered"),
        ("chat/completions", {"model": "nano", "messages": HI, "verbosity": "low"}, 400,
         "verbosity is not supported: say in the prompt how long the answer should be"),
        ("chat/completions", {"model": "nano", "messages": HI, "response_format": {"type": "xml"}}, 400,
         'response_format.type must be "text", "json_object" or "json_schema", not "xml"'),
        ("chat/completions", {"model": "nano", "messages": HI, "response_format": {"type": "json_schema"}}, 400,
         "response_format.json_schema.schema must be a JSON schema object"),
        ("chat/completions", {"model": "nano", "messages": HI, "tools": [{"type": "custom"}]}, 400,
         'tools[0]: type "custom" is not supported: only functions are'),
        ("chat/completions", {"model": "nano", "messages": HI, "tool_choice": "maybe"}, 400,
         'tool_choice must be "auto", "none", "required", or name a function'),
        ("completions", {"model": "nano", "prompt": "x", "echo": True, "logprobs": 1}, 400,
         "logprobs with echo are not supported: those of a prompt are not computed"),
        ("completions", {"model": "nano", "prompt": "x", "best_of": 3}, 400,
         "best_of is not supported: ask for n answers, and choose among them"),
        ("completions", {"model": "nano", "prompt": "x", "logprobs": 21}, 400, "logprobs must be between 0 and 20"),
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
