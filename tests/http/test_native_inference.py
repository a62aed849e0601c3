"""generate and chat on the wire: lines, keys, texts, against a scripted runner."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from server.errors import RunnerDied, RunnerError
from server.types import ChatPrompt, Chunk, Final, Logprob, Message, TextPrompt, ToolCall


async def post(client: Any, path: str, **body: Any) -> tuple[int, str, str]:
    async with client.post(path, data=json.dumps(body)) as answer:
        return answer.status, answer.headers.get("Content-Type", ""), await answer.text()


async def test_generate_streams_lines_in_ollamas_key_order(client: Any) -> None:
    status, kind, text = await post(client, "/api/generate", model="nano", prompt="Hi")
    assert (status, kind) == (200, "application/x-ndjson")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["response"] for line in lines] == ["Hel", "lo", ""]
    assert [list(line) for line in lines[:2]] == [["model", "created_at", "response", "done"]] * 2
    assert list(lines[-1]) == [
        "model", "created_at", "response", "done", "done_reason", "context", "total_duration", "load_duration",
        "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration",
    ]  # fmt: skip
    assert all(lines[-1][key] > 0 for key in lines[-1] if key.endswith("_duration"))
    assert lines[-1]["context"] == [1, 2, 3]


async def test_chat_streams_messages(client: Any) -> None:
    _, _, text = await post(client, "/api/chat", model="nano", messages=[{"role": "user", "content": "Hi"}])
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["message"] for line in lines] == [{"role": "assistant", "content": text} for text in ("Hel", "lo", "")]
    assert "context" not in lines[-1]
    assert [line["done"] for line in lines] == [False, False, True]


async def test_whole_answers(client: Any) -> None:
    status, kind, text = await post(client, "/api/generate", model="nano", prompt="Hi", stream=False)
    assert (status, kind) == (200, "application/json; charset=utf-8")
    assert json.loads(text)["response"] == "Hello"
    _, _, text = await post(client, "/api/chat", model="nano", messages=[{"content": "Hi"}], stream=False)
    assert json.loads(text)["message"] == {"role": "assistant", "content": "Hello"}


async def test_thinking_tools_and_logprobs(client: Any, runner: Any) -> None:
    top = Logprob("b", (98,), -2.0)
    runner.chunks = (
        Chunk(thinking="hm"),
        Chunk("<a>\u2028", logprobs=(Logprob("a", (97,), -0.5, (top,)),)),
        Chunk(tool_calls=(ToolCall("f", {"z": 1, "a": "<"}, "call_1", 0),)),
        Chunk(final=Final("stop", 1, 0, 1)),
    )
    _, _, text = await post(client, "/api/chat", model="nano-tools", messages=[{"role": "user", "content": "x"}])
    assert "\\u003ca\\u003e\\u2028" in text
    first, second, third, last = [json.loads(line) for line in text.split("\n")[:-1]]
    assert first["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert second["logprobs"] == [
        {"token": "a", "logprob": -0.5, "bytes": [97],
         "top_logprobs": [{"token": "b", "logprob": -2.0, "bytes": [98]}]},
    ]  # fmt: skip
    call = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"z": 1, "a": "<"}}}
    assert third["message"] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert list(call["function"]["arguments"]) == ["z", "a"]
    assert last["done"] is True


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("generate", {"prompt": "x"}, 404, "model '' not found"),
        ("generate", {"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ("chat", {"messages": [{"content": "x"}]}, 400, "model is required"),
        ("chat", {"model": "nope", "messages": []}, 404, "model 'nope' not found"),
        ("generate", {"model": "nano", "prompt": "x", "raw": True, "system": "y"}, 400,
         "raw mode does not support template, system, or context"),
        ("generate", {"model": "nano", "prompt": "a", "suffix": "b"}, 400,
         "registry.ollama.ai/library/nano:latest does not support insert"),
        ("chat", {"model": "nano", "messages": [{"content": "x"}], "tools": [{"function": {"name": "f"}}]}, 400,
         "registry.ollama.ai/library/nano:latest does not support tools"),
        ("chat", {"model": "nano", "messages": [{"content": "x"}], "think": "high"}, 400,
         '"nano" does not support thinking'),
        ("chat", {"model": "nano-embed", "messages": [{"content": "x"}]}, 400, '"nano-embed" does not support chat'),
        ("generate", {"model": "nano-embed", "prompt": "x"}, 400, '"nano-embed" does not support generate'),
        ("generate", {"model": "nano", "prompt": "x", "options": {"num_ctx": "big"}}, 500,
         'option "num_ctx" must be of type integer'),
        ("generate", {"model": "nano", "prompt": "x", "template": "{{ .Prompt"}, 500,
         "template: :1: unclosed action"),
        ("chat", {"model": "nope", "messages": [{"content": "x"}], "format": "xml"}, 404, "model 'nope' not found"),
        ("generate", {"model": "nano", "prompt": "x", "top_logprobs": 21}, 400,
         "top_logprobs must be between 0 and 20"),
        ("chat", {"model": "nano", "messages": [{"role": "user", "images": ["@@"]}]}, 400,
         "illegal base64 data at input byte 0"),
        ("embed", {"input": "x"}, 404, "model '' not found"),
        ("embed", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("embed", {"model": "nano-embed", "input": [1]}, 400, "invalid input type"),
        ("embeddings", {"prompt": "x"}, 400, "model is required"),
    ],
)  # fmt: skip
async def test_refusals(client: Any, path: str, body: dict[str, Any], status: int, text: str) -> None:
    found, kind, answer = await post(client, f"/api/{path}", **body)
    assert (found, json.loads(answer)) == (status, {"error": text})
    assert kind == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("given", "quoted"),
    [("xml", r'"\"xml\""'), (5, '"5"'), (True, '"true"'), (["<"], r'"[\"<\"]"'), ("a\n", r'"\"a\\n\""')],
)
async def test_formats_that_are_none(client: Any, given: Any, quoted: str) -> None:
    """Refused where Ollama refuses them: by the engine, so as the first object of the stream."""
    error = {"error": f'invalid format: {quoted}; expected "json" or a valid JSON Schema object'}
    ask: dict[str, Any] = {"model": "nano", "format": given}
    status, kind, text = await post(client, "/api/generate", **ask, prompt="x")
    assert (status, kind, json.loads(text)) == (500, "application/json", error)
    status, kind, text = await post(client, "/api/chat", **ask, messages=[{"content": "x"}], stream=False)
    assert (status, kind, json.loads(text)) == (500, "application/json; charset=utf-8", error)


async def test_a_format_is_not_looked_at_where_nothing_is_generated(client: Any, runner: Any) -> None:
    status, _, text = await post(client, "/api/chat", model="nano", format="xml")
    assert (status, json.loads(text)["done_reason"]) == (200, "load")
    runner.chunks = (Chunk(final=Final("stop", rendered="p")),)
    status, _, _ = await post(client, "/api/generate", model="nano", prompt="x", format="xml", _debug_render_only=True)
    assert status == 200


async def test_an_empty_schema_is_any_object_as_in_llama_cpp(client: Any, runner: Any) -> None:
    await post(client, "/api/generate", model="nano", prompt="x", format={})
    assert runner.generations[0].format == "json"


async def test_a_broken_template_is_nothing_to_a_request_that_only_loads(client: Any) -> None:
    status, _, text = await post(client, "/api/generate", model="nano", template="{{ .Prompt")
    assert (status, json.loads(text)["done_reason"]) == (200, "load")


async def test_load_and_unload(client: Any, manager: Any) -> None:
    _, kind, text = await post(client, "/api/generate", model="nano")
    assert kind == "application/json; charset=utf-8"
    assert text.endswith('"response":"","done":true,"done_reason":"load"}')
    _, _, text = await post(client, "/api/chat", model="nano", messages=[], keep_alive=0)
    assert text.endswith('"message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}')
    _, _, text = await post(client, "/api/generate", model="nano-embed", keep_alive=0)
    assert '"done_reason":"unload"' in text
    assert [spec.name for spec in manager.unloaded] == ["nano:latest", "nano-embed:latest"]
    assert len(manager.leases) == 1


async def test_render_only(client: Any, runner: Any) -> None:
    runner.chunks = (Chunk(final=Final("stop", rendered="<p>")),)
    _, _, text = await post(client, "/api/generate", model="nano", prompt="x", _debug_render_only=True)
    assert text.endswith('"response":"","done":false,"_debug_info":{"rendered_template":"\\u003cp\\u003e"}}')
    _, _, text = await post(client, "/api/chat", model="nano", messages=[{"content": "x"}], _debug_render_only=True)
    assert '"message":{"role":"","content":""},"done":false,"_debug_info"' in text
    assert "image_count" not in text
    images = ["aGk=", "aGk="]
    _, _, text = await post(client, "/api/generate", model="nano", prompt="x", images=images, _debug_render_only=True)
    assert text.endswith('"_debug_info":{"rendered_template":"\\u003cp\\u003e","image_count":2}}')
    messages = [{"content": "x", "images": images}, {"content": "y", "images": images[:1]}]
    _, _, text = await post(client, "/api/chat", model="nano", messages=messages, _debug_render_only=True)
    assert text.endswith('"image_count":3}}')


async def test_what_reaches_the_runner(client: Any, runner: Any, manager: Any, library: Any, spec: Any) -> None:
    library.specs["own"] = spec(
        "own", "completion", "thinking", system="S", messages=(Message("user", "hi"), Message("assistant", "hello")),
        parameters={"temperature": 0.1, "num_ctx": 100_000, "stop": ["E"]}, context_length=2048,
    )  # fmt: skip
    await post(client, "/api/chat", model="own", messages=[{"role": "USER", "content": "A"}],
               options={"num_predict": 3, "nonsense": 1}, keep_alive="10m")  # fmt: skip
    generation = runner.generations[0]
    assert isinstance(generation.prompt, ChatPrompt)
    assert [(m.role, m.content) for m in generation.prompt.messages] == [
        ("system", "S"), ("user", "hi"), ("assistant", "hello"), ("user", "A"),
    ]  # fmt: skip
    assert generation.prompt.think is True
    assert (generation.sampling.temperature, generation.limits.num_predict, generation.limits.stop) == (0.1, 3, ("E",))
    _, load, keep_alive = manager.leases[0]
    assert (load.num_ctx, generation.limits.num_ctx, keep_alive) == (2048, 2048, 600.0)

    await post(client, "/api/generate", model="own", prompt="B", context=[5, 6], logprobs=True, shift=False)
    generation = runner.generations[1]
    assert isinstance(generation.prompt, TextPrompt)
    assert (generation.prompt.context, generation.prompt.system, generation.prompt.history) == ((5, 6), "", ())
    assert (generation.want_context, generation.top_logprobs, generation.limits.shift) == (True, 0, False)


@pytest.mark.parametrize(
    ("name", "family", "kept"),
    [("q", "qwen3", ["old", "<think>c</think>new"]), ("deepseek-r1", "qwen2", ["old", "<think>c</think>new"]),
     ("m", "llama", ["<think>a</think>\n\nold", "<think>c</think>new"])],
)  # fmt: skip
async def test_models_that_learned_so_do_not_see_their_old_thoughts(
    client: Any, runner: Any, library: Any, spec: Any, name: str, family: str, kept: list[str]
) -> None:
    library.specs[name] = spec(name, "completion", "thinking", family=family)
    messages = [
        {"role": "user", "content": "<think>mine</think>1"},
        {"role": "assistant", "content": "<think>a</think>\n\nold"},
        {"role": "user", "content": "2"}, {"role": "assistant", "content": "<think>c</think>new"},
    ]  # fmt: skip
    await post(client, "/api/chat", model=name, messages=messages)
    seen = runner.generations[0].prompt.messages
    assert [m.content for m in seen if m.role == "assistant"] == kept
    assert seen[0].content == "<think>mine</think>1"


async def test_an_unknown_renderer_fails_at_use(client: Any, library: Any, spec: Any) -> None:
    library.specs["own"] = spec("own", "completion", renderer="bogus")
    for path, body in (("chat", {"messages": [{"content": "x"}]}), ("generate", {"prompt": "x"})):
        status, _, text = await post(client, f"/api/{path}", model="own", **body)
        assert (status, json.loads(text)) == (500, {"error": 'unknown renderer "bogus"'})
    for body in ({"prompt": "x", "raw": True}, {"prompt": "x", "template": "{{ .Prompt }}"}, {}):
        status, _, _ = await post(client, "/api/generate", model="own", **body)
        assert status == 200


async def test_an_error_before_the_first_chunk_has_its_status(client: Any, runner: Any) -> None:
    runner.chunks = (RunnerError("the context is full"),)
    status, kind, text = await post(client, "/api/generate", model="nano", prompt="x")
    assert (status, kind, json.loads(text)) == (500, "application/json", {"error": "the context is full"})


async def test_an_error_after_the_first_chunk_is_the_last_line(client: Any, runner: Any) -> None:
    runner.chunks = (Chunk("a"), RunnerDied("model runner has unexpectedly stopped"))
    status, _, text = await post(client, "/api/generate", model="nano", prompt="x")
    lines = [json.loads(line) for line in text.splitlines()]
    assert status == 200
    assert lines[-1] == {"error": "model runner has unexpectedly stopped"}
    assert not any(line.get("done") for line in lines)


async def test_an_unknown_error_tells_only_its_number(client: Any, runner: Any, caplog: Any) -> None:
    runner.chunks = (ZeroDivisionError("secret path /etc"),)
    status, _, text = await post(client, "/api/generate", model="nano", prompt="x")
    assert status == 500
    assert json.loads(text)["error"].startswith("internal error (id=")
    assert "secret path" in caplog.text


async def test_truncation_is_said(client: Any, runner: Any, caplog: Any) -> None:
    runner.chunks = (Chunk(final=Final("stop", 5, 0, 1, truncated=9)),)
    _, _, text = await post(client, "/api/generate", model="nano", prompt="x", stream=False)
    assert json.loads(text)["truncated"] == 9
    assert "9 tokens were cut" in caplog.text


async def test_embeddings(client: Any, runner: Any) -> None:
    _, _, text = await post(client, "/api/embed", model="nano-embed", input=["a", "b"], dimensions=2)
    found = json.loads(text)
    assert list(found) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert found["embeddings"] == [[0.6, 0.8], [0.6, 0.8]]
    assert runner.embedded[0]["normalize"] is True
    _, _, text = await post(client, "/api/embed", model="nano-embed", input="")
    assert text == '{"model":"nano-embed","embeddings":[]}'
    _, _, text = await post(client, "/api/embeddings", model="nano-embed", prompt="a")
    assert json.loads(text)["embedding"] == pytest.approx([0.6, 0.8])
    assert "0.6000000238418579" in text
    _, _, text = await post(client, "/api/embeddings", model="nano-embed", prompt="")
    assert text == '{"embedding":[]}'


async def test_http_1_0_gets_its_stream_up_to_the_end_of_the_connection(client: Any) -> None:
    body = json.dumps({"model": "nano", "prompt": "x"})
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        f"POST /api/generate HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    head, _, lines = (await reader.read()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len([json.loads(line) for line in lines.splitlines()]) == 3
    writer.close()
