"""Anthropic's shapes on the wire."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest

from server.errors import RunnerError
from server.types import ChatPrompt, Chunk, Final, ToolCall, ToolChoice

HI = [{"role": "user", "content": "Hi"}]
BASE = {"model": "nano", "max_tokens": 64, "messages": HI}
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {"x": {"type": "integer"}}}}


async def post(client: Any, path: str = "messages", **body: Any) -> tuple[int, Any]:
    async with client.post(f"/v1/{path}", data=json.dumps(body)) as answer:
        return answer.status, json.loads(await answer.text())


async def events(client: Any, **body: Any) -> list[Any]:
    async with client.post("/v1/messages", data=json.dumps({**body, "stream": True})) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        text = await answer.text()
    found = []
    for part in text.removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


async def test_whole(client: Any) -> None:
    status, found = await post(client, **BASE)
    assert status == 200
    assert found.pop("id").startswith("msg_")
    assert found == {
        "type": "message", "role": "assistant", "model": "nano", "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 2},
    }  # fmt: skip


async def test_stream(client: Any) -> None:
    found = await events(client, **BASE)
    message = found[0]["message"]
    assert message.pop("id").startswith("msg_")
    assert found == [
        {"type": "message_start", "message": {
            "type": "message", "role": "assistant", "model": "nano", "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
         "usage": {"input_tokens": 7, "output_tokens": 2}},
        {"type": "message_stop"},
    ]  # fmt: skip


async def test_thinking_text_and_calls_are_blocks(client: Any, runner: Any) -> None:
    runner.chunks = (
        Chunk(thinking="h"), Chunk(thinking="m"), Chunk("so"), Chunk(tool_calls=(ToolCall("f", {"x": "<"}, "c1", 0),)),
        Chunk(tool_calls=(ToolCall("f", {}, "c2", 1),)), Chunk(final=Final("stop", 5, 0, 9)),
    )  # fmt: skip
    wanted = BASE | {"model": "nano-tools", "tools": [TOOL]}
    _, whole = await post(client, **wanted)
    assert whole["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": "<"}},
        {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
    ]
    assert whole["stop_reason"] == "tool_use"
    found = await events(client, **wanted)
    kinds = [(event["type"], event.get("index")) for event in found]
    start, delta, stop = "content_block_start", "content_block_delta", "content_block_stop"
    assert kinds == [
        ("message_start", None), (start, 0), (delta, 0), (delta, 0), (delta, 0), (stop, 0), (start, 1), (delta, 1),
        (stop, 1), (start, 2), (delta, 2), (stop, 2), (start, 3), (delta, 3), (stop, 3), ("message_delta", None),
        ("message_stop", None),
    ]  # fmt: skip
    assert found[4]["delta"] == {"type": "signature_delta", "signature": ""}
    assert found[9]["content_block"] == {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
    assert json.loads(found[10]["delta"]["partial_json"]) == {"x": "<"}
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    hidden = await events(client, **wanted, thinking={"type": "adaptive", "display": "omitted"})
    assert "thinking" not in json.dumps(hidden)


async def test_one_call_where_parallel_ones_are_switched_off(client: Any, runner: Any) -> None:
    calls = (ToolCall("f", {}, "c1", 0), ToolCall("f", {}, "c2", 1))
    runner.chunks = (Chunk(tool_calls=calls), Chunk("more"), Chunk("!", final=Final("stop", 1, 0, 9)))
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    _, found = await post(client, **BASE | {"model": "nano-tools", "tools": [TOOL], "tool_choice": choice})
    assert [block["id"] for block in found["content"]] == ["c1"]
    assert (found["stop_reason"], found["usage"]["output_tokens"]) == ("tool_use", 9)


@pytest.mark.parametrize(
    ("final", "stops", "reason", "sequence"),
    [
        (Final("stop", 1, 0, 3, stop_sequence="END"), ["END"], "stop_sequence", "END"),
        (Final("stop", 1, 0, 3, stop_sequence="<|im_end|>"), ["END"], "end_turn", None),
        (Final("length", 1, 0, 64), [], "max_tokens", None),
        (Final("length", 1, 0, 9), [], "model_context_window_exceeded", None),
    ],
)
async def test_how_it_ended(
    client: Any, runner: Any, final: Final, stops: list[str], reason: str, sequence: str | None
) -> None:
    runner.chunks = (Chunk("a"), Chunk(final=final))
    _, found = await post(client, **BASE, stop_sequences=stops)
    assert (found["stop_reason"], found["stop_sequence"]) == (reason, sequence)
    delta = (await events(client, **BASE, stop_sequences=stops))[-2]["delta"]
    assert delta == {"stop_reason": reason, "stop_sequence": sequence}


async def test_what_reaches_the_runner(client: Any, runner: Any, manager: Any) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}}
    talk = [
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, image,
                                     {"type": "document", "title": "T", "source": {"type": "text", "data": "doc"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                                          {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "b"},
                                          {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}},
                                          {"type": "tool_use", "id": "c2", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "42"},
                                     {"type": "tool_result", "tool_use_id": "c2", "is_error": True,
                                      "content": [{"type": "text", "text": "no"}, image]},
                                     {"type": "text", "text": "go on"}]},
    ]  # fmt: skip
    schema = {"type": "object"}
    await post(
        client, model="nano-tools", max_tokens=5, messages=talk, tools=[TOOL], temperature=0.5, top_k=3, top_p=0.25,
        system=[{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}], stop_sequences=["END"],
        thinking={"type": "adaptive"}, output_config={"effort": "xhigh", "format": {"type": "json_schema",
        "schema": schema}}, options={"min_p": 0.125, "temperature": 1}, num_ctx=512, keep_alive="7s",
        metadata={"user_id": "u"},
    )  # fmt: skip
    (generation,) = runner.generations
    assert isinstance(generation.prompt, ChatPrompt)
    system, ask, answer, good, bad, more = generation.prompt.messages
    assert (system.role, system.content) == ("system", "be kind")
    assert (ask.content, ask.images) == ("aT\ndoc", (b"png",))
    assert (answer.thinking, answer.content) == ("hm", "b")
    assert [(call.id, call.arguments) for call in answer.tool_calls] == [("c1", {"x": 1}), ("c2", {})]
    assert (good.role, good.content, good.tool_name, good.tool_call_id) == ("tool", "42", "f", "c1")
    assert (bad.content, bad.images, more.role, more.content) == ("Error: no", (b"png",), "user", "go on")
    assert generation.prompt.tools[0]["function"]["parameters"]["properties"] == {"x": {"type": "integer"}}
    assert (generation.prompt.think, generation.format) == ("high", schema)
    sampling, limits = generation.sampling, generation.limits
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.5, 3, 0.25, 0.125)
    assert (limits.num_predict, limits.stop, limits.num_ctx) == (5, ("END",), 512)
    assert manager.leases[0][2] == 7.0


async def test_thinking_is_not_asked_of_a_model_that_cannot(client: Any, runner: Any) -> None:
    status, _ = await post(client, **BASE, thinking={"type": "enabled", "budget_tokens": 1024})
    assert (status, runner.generations[0].prompt.think) == (200, None)


async def test_a_call_and_a_bound_on_thinking_are_passed_on(client: Any, runner: Any) -> None:
    choice, thinking = {"type": "tool", "name": TOOL["name"]}, {"type": "enabled", "budget_tokens": 2000}
    status, _ = await post(
        client, **BASE | {"model": "nano-tools"}, tools=[TOOL], tool_choice=choice, thinking=thinking
    )
    assert status == 200
    (generation,) = runner.generations
    assert generation.prompt.tool_choice == ToolChoice("required", TOOL["name"])
    assert generation.limits.think_budget == 2000


async def test_tool_choice_none_hides_the_tools(client: Any, runner: Any) -> None:
    await post(client, **BASE, tools=[TOOL], tool_choice={"type": "none"})
    assert runner.generations[0].prompt.tools == ()


async def test_count_tokens(client: Any, runner: Any) -> None:
    status, found = await post(client, "messages/count_tokens", model="nano", messages=HI, system="s")
    assert (status, found) == (200, {"input_tokens": 7})
    (generation,) = runner.generations
    assert (generation.render_only, generation.limits.truncate) == (True, False)
    assert (await post(client, "messages/count_tokens", model="nano"))[0] == 400


def bad(**fields: Any) -> dict[str, Any]:
    return {**BASE, **fields}


def block(**fields: Any) -> dict[str, Any]:
    return bad(messages=[{"role": "user", "content": [fields]}])


@pytest.mark.parametrize(
    ("body", "status", "kind", "text"),
    [
        ({}, 400, "invalid_request_error", "model is required"),
        (bad(max_tokens=0), 400, "invalid_request_error", "max_tokens is required and must be positive"),
        (bad(messages=[]), 400, "invalid_request_error", "messages is required"),
        (bad(model="nope"), 404, "not_found_error", "model 'nope' not found"),
        (bad(messages=[{"role": "bot", "content": ""}]), 400, "invalid_request_error",
         'messages.0.role must be "user", "assistant" or "system"'),
        (bad(messages=[{"role": "user", "content": 3}]), 400, "invalid_request_error",
         "messages.0.content must be a string or a list of content blocks"),
        (block(type="image", source={"type": "url", "url": "https://x"}), 400, "invalid_request_error",
         "invalid image source type: url. Only base64 images are supported."),
        (block(type="video"), 400, "invalid_request_error",
         'messages.0.content.0: a block of type "video" is not supported'),
        (block(type="document", source={"type": "base64", "data": "x"}), 400, "invalid_request_error",
         'messages.0.content.0.source: type "base64" is not supported: give the document\'s text'),
        (bad(tools=[{"type": "web_search_20250305", "name": "web_search"}]), 400, "invalid_request_error",
         'tools.0: type "web_search_20250305" is not supported: only tools with an input_schema are'),
        (bad(tools=[TOOL]), 400, "invalid_request_error",
         "registry.ollama.ai/library/nano:latest does not support tools"),
        (bad(mcp_servers=[{"url": "x"}]), 400, "invalid_request_error",
         "mcp_servers is not supported: connect to MCP servers in the client, and give their tools as tools"),
        (bad(model="nano-tools", tool_choice={"type": "any"}), 400, "invalid_request_error",
         "a tool call is required, but the request has no tools"),
        (bad(thinking={"type": "deep"}), 400, "invalid_request_error",
         'thinking.type must be "enabled", "disabled" or "adaptive"'),
        (bad(temperature=-1), 400, "invalid_request_error",
         'option "temperature" must be between 0 and 10000, not -1.0'),
    ],
)  # fmt: skip
async def test_refusals(client: Any, body: dict[str, Any], status: int, kind: str, text: str) -> None:
    async with client.post("/v1/messages", data=json.dumps(body)) as answer:
        found = await answer.json()
        assert answer.headers["Request-Id"] == found.pop("request_id")
        assert (answer.status, found) == (status, {"type": "error", "error": {"type": kind, "message": text}})


async def test_an_error_in_the_middle_is_an_event(client: Any, runner: Any) -> None:
    runner.chunks = (Chunk("a"), RunnerError("it broke"))
    found = await events(client, **BASE)
    assert found[-1] == {"type": "error", "error": {"type": "api_error", "message": "it broke"}}
    runner.chunks = (RunnerError("it broke"),)
    status, body = await post(client, **BASE, stream=True)
    assert (status, body["error"]["message"]) == (500, "it broke")


async def test_large_images_are_not_text(client: Any) -> None:
    picture = base64.b64encode(b"x" * 9_000_000).decode()
    source = {"type": "base64", "media_type": "image/png", "data": picture}
    body = json.dumps(block(type="image", source=source)).encode()
    assert (await client.post("/v1/messages", data=io.BytesIO(body))).status == 200
