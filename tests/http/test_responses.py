"""OpenAI's Responses on the wire, and the memory behind ``previous_response_id``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.api.responses_store import ResponseStore
from server.errors import InvalidRequest, RunnerError
from server.types import Chunk, Final, Logprob, Message, ToolCall

TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
THOUGHT = (
    Chunk(thinking="h"), Chunk(thinking="m"), Chunk("so"), Chunk(tool_calls=(ToolCall("f", {"x": 1}, "c1", 0),)),
    Chunk(final=Final("stop", 5, 4, 9)),
)  # fmt: skip


async def post(client: Any, **body: Any) -> tuple[int, Any]:
    async with client.post("/v1/responses", data=json.dumps(body)) as answer:
        return answer.status, json.loads(await answer.text())


async def events(client: Any, **body: Any) -> list[Any]:
    async with client.post("/v1/responses", data=json.dumps({**body, "stream": True})) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        text = await answer.text()
    found = []
    for number, part in enumerate(text.removesuffix("\n\n").split("\n\n")):
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert (name, event["sequence_number"]) == (f"event: {event['type']}", number)
        found.append(event)
    return found


async def test_whole(client: Any) -> None:
    status, found = await post(client, model="nano", input="Hi", metadata={"a": "b"})
    assert (status, found["object"], found["status"]) == (200, "response", "completed")
    (item,) = found["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert found["usage"] == {
        "input_tokens": 7, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 9,
    }  # fmt: skip
    assert (found["metadata"], found["temperature"], found["error"]) == ({"a": "b"}, 1.0, None)


async def test_stream(client: Any) -> None:
    found = await events(client, model="nano", input="Hi")
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["delta"] for event in found[4:6]] == ["Hel", "lo"]
    assert len({event["response"]["id"] for event in found if "response" in event}) == 1
    assert found[0]["response"]["status"] == "in_progress"
    assert found[-1]["response"]["output"] == [found[-2]["item"]]
    assert found[6]["text"] == "Hello"


async def test_thoughts_text_and_calls_are_items(client: Any, runner: Any) -> None:
    runner.chunks = THOUGHT
    wanted = {"model": "nano-tools", "input": "Hi", "tools": [TOOL], "include": ["reasoning.encrypted_content"]}
    found = await events(client, **wanted)
    assert [event["type"].removeprefix("response.") for event in found][2:] == [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done",
        "output_item.done", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "output_item.added", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["output_index"] for event in found if event["type"].endswith("item.done")] == [0, 1, 2]
    _, whole = await post(client, **wanted)
    thought, text, call = whole["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert thought["encrypted_content"] == "hm"
    assert text["content"][0]["text"] == "so"
    assert (call["call_id"], call["name"], json.loads(call["arguments"])) == ("c1", "f", {"x": 1})
    usage = whole["usage"]
    assert (usage["input_tokens_details"]["cached_tokens"], usage["output_tokens_details"]["reasoning_tokens"]) == (
        4,
        2,
    )


async def test_cut_answers_are_incomplete_and_broken_ones_failed(client: Any, runner: Any) -> None:
    runner.chunks = (Chunk("a"), Chunk(final=Final("length", 1, 0, 1)))
    last = (await events(client, model="nano", input="Hi", max_output_tokens=1))[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == (
        "response.incomplete", {"reason": "max_output_tokens"},
    )  # fmt: skip
    runner.chunks = (Chunk("a"), RunnerError("it broke"))
    last = (await events(client, model="nano", input="Hi"))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"] == {"code": "server_error", "message": "it broke"}


async def test_what_reaches_the_runner(client: Any, runner: Any) -> None:
    items = [
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look"},
         {"type": "input_image", "image_url": "data:image/png;base64,cG5n"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "calling"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "43"}]},
        {"type": "reasoning", "encrypted_content": "aha", "summary": []},
        {"type": "function_call", "call_id": "c3", "name": "f", "arguments": "{}"},
    ]  # fmt: skip
    schema = {"type": "object"}
    await post(
        client, model="nano-tools", input=items, instructions="short", tools=[TOOL], max_output_tokens=5,
        temperature=0.5, top_p=0.25, text={"format": {"type": "json_schema", "name": "n", "schema": schema}},
        reasoning={"effort": "low"}, truncation="disabled", top_logprobs=2, options={"top_k": 3}, num_ctx=512,
    )  # fmt: skip
    (generation,) = runner.generations
    told, kind, look, picture, called, first, second, last = generation.prompt.messages
    assert (told.role, told.content, kind.role) == ("system", "short", "developer")
    assert (look.content, picture.images) == ("look", (b"png",))
    assert (called.thinking, called.content) == ("hm", "calling")
    assert [(call.id, call.name, call.arguments) for call in called.tool_calls] == [
        ("c1", "f", {"x": 1}),
        ("c2", "g", {}),
    ]
    assert (first.tool_name, first.content, second.tool_name, second.content) == ("f", "42", "g", "43")
    assert (last.thinking, last.tool_calls[0].id) == ("aha", "c3")
    sampling, limits = generation.sampling, generation.limits
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.25, 3)
    assert (limits.num_predict, limits.num_ctx, limits.truncate, limits.shift) == (5, 512, False, False)
    assert (generation.format, generation.prompt.think, generation.top_logprobs) == (schema, "low", 2)


async def test_logprobs(client: Any, runner: Any) -> None:
    runner.chunks = (Chunk("a", logprobs=(Logprob("a", (97,), -0.5),)), Chunk(final=Final("stop", 1, 0, 1)))
    _, found = await post(client, model="nano", input="Hi", include=["message.output_text.logprobs"])
    assert found["output"][0]["content"][0]["logprobs"] == [{"token": "a", "logprob": -0.5, "bytes": [97]}]


async def test_a_conversation_goes_on_by_its_id(client: Any, runner: Any) -> None:
    runner.chunks = THOUGHT
    _, first = await post(client, model="nano-tools", input="Hi", tools=[TOOL], instructions="once")
    result = [{"type": "function_call_output", "call_id": "c1", "output": "42"}]
    _, second = await post(client, model="nano-tools", input=result, tools=[TOOL], previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    ask, answer, told = runner.generations[1].prompt.messages  # without the instructions of the first
    assert (ask.content, answer.content, answer.thinking, answer.tool_calls[0].id) == ("Hi", "so", "hm", "c1")
    assert (told.role, told.tool_name, told.content) == ("tool", "f", "42")
    streamed = await events(client, model="nano-tools", input="More", previous_response_id=second["id"])
    await post(client, model="nano-tools", input="!", previous_response_id=streamed[-1]["response"]["id"])
    assert [message.content for message in runner.generations[3].prompt.messages] == [
        "Hi", "so", "42", "so", "More", "so", "!",
    ]  # fmt: skip
    _, unkept = await post(client, model="nano", input="Hi", store=False)
    status, error = await post(client, model="nano", input="Hi", previous_response_id=unkept["id"])
    assert (status, "not found" in error["error"]["message"]) == (400, True)


def test_the_memory_is_bounded_in_time_and_size() -> None:
    now = [0.0]
    store = ResponseStore(10.0, 4000, clock=lambda: now[0])
    said = (Message("user", "x" * 100),)  # 912 bytes
    for index in range(5):
        store.keep(f"r{index}", said)
        now[0] += 1
    assert store.size == 4 * 912
    with pytest.raises(InvalidRequest, match="'r0' not found"):
        store.find("r0")
    assert store.find("r1") == said
    now[0] = 11.5  # r1 was kept at 1
    with pytest.raises(InvalidRequest):
        store.find("r1")
    assert store.find("r2") == said
    store.keep("huge", (Message("user", images=(b"x" * 5000,)),))
    assert store.size == 0


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"model": "nope", "input": "x"}, 404, "model 'nope' not found"),
        ({"input": "x"}, 400, "model is required"),
        ({"model": "nano"}, 400, "input must be a string or a list of items"),
        ({"model": "nano", "input": [{"type": "item_reference", "id": "x"}]}, 400,
         'input[0]: unknown input item type: "item_reference"'),
        ({"model": "nano", "input": [{"role": "user", "content": [{"type": "input_file"}]}]}, 400,
         'input[0].content[0]: a part of type "input_file" is not supported'),
        ({"model": "nano", "input": "x", "background": True}, 400,
         "background is not supported: keep the connection open, with stream"),
        ({"model": "nano", "input": "x", "tools": [{"type": "web_search"}]}, 400,
         'tools[0]: type "web_search" is not supported: only functions are'),
        ({"model": "nano", "input": "x", "max_output_tokens": 0}, 400, "max_output_tokens must be positive"),
        ({"model": "nano", "input": "x", "truncation": "maybe"}, 400, 'truncation must be "auto" or "disabled"'),
        ({"model": "nano", "input": "x", "text": {"format": {"type": "grammar"}}}, 400,
         'text.format.type must be "text", "json_object" or "json_schema"'),
        ({"model": "nano", "input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]}, 400,
         "invalid tool call arguments"),
    ],
)  # fmt: skip
async def test_refusals(client: Any, body: dict[str, Any], status: int, text: str) -> None:
    found, answer = await post(client, **body)
    assert (found, answer["error"]["message"]) == (status, text)
