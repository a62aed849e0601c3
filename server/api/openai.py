"""OpenAI's routes under ``/v1``: a translation to the same hallway, with the spellings and quirks of Ollama's.

Ours on purpose: ``max_completion_tokens``, ``logit_bias`` and ``tool_choice: "none"`` are honoured, ``n`` above
one is refused, an error after the first event is an event of its own.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from typing import Any

import orjson
from aiohttp import web

from server import inference
from server.api import gojson, openai_requests, requestlog
from server.api.bodies import check_text, read_json
from server.api.decode import decode
from server.api.ollama import logprobs, short_rows
from server.api.openai_requests import CHAT, COMPLETION, EMBEDDING
from server.api.state import HOUSE
from server.api.streaming import SSE, collect, json_response, stream
from server.errors import ModelNotFound
from server.store.library import parse_name
from server.store.record import Record
from server.types import Chunk, CompletionRequest, Final, ToolCall

FINGERPRINT = "fp_ollama"
DONE = b"data: [DONE]\n\n"


async def chat(request: web.Request) -> web.StreamResponse:
    body = await read_json(request, images=True)
    fields = decode(body, CHAT, empty="EOF")
    wanted = openai_requests.chat_request(fields)
    check_text(body, (image for message in wanted.messages for image in message.images))
    requestlog.of(request).model = wanted.model
    writer = ChatEvents(wanted.model, usage=_include_usage(fields))
    chunks = await inference.chat(request.app[HOUSE], wanted)
    if fields.get("stream") and not wanted.render_only:
        return await stream(request, chunks, writer)
    chunk, final = await collect(request, chunks)
    if final.rendered is not None:
        return json_response({"_debug_info": {"rendered_template": final.rendered}}, newline=True, charset=False)
    return json_response(writer.whole(chunk, final), newline=True, charset=False)


async def completions(request: web.Request) -> web.StreamResponse:
    fields = decode(await read_json(request), COMPLETION, empty="EOF")
    wanted = CompletionRequest(
        fields.get("model", ""),
        fields.get("prompt", ""),
        suffix=fields.get("suffix", ""),
        options=openai_requests.sampling_options(fields),
    )
    requestlog.of(request).model = wanted.model
    writer = CompletionEvents(wanted.model, usage=_include_usage(fields))
    chunks = await inference.complete(request.app[HOUSE], wanted)
    if fields.get("stream"):
        return await stream(request, chunks, writer)
    return json_response(writer.whole(*await collect(request, chunks)), newline=True, charset=False)


async def embeddings(request: web.Request) -> web.StreamResponse:
    fields = decode(await read_json(request), EMBEDDING, empty="EOF")
    wanted, encoding = openai_requests.embed_request(fields)
    requestlog.of(request).model = wanted.model
    found = await inference.embed(request.app[HOUSE], wanted)
    size = found.width * 4
    rows = [found.vectors[start : start + size] for start in range(0, len(found.vectors), size or 1)]
    vectors: list[Any]
    if encoding == "base64":
        vectors = [base64.b64encode(row).decode("ascii") for row in rows]
    else:
        vectors = orjson.loads(gojson.encode(short_rows(found))) if rows else []
    data = [{"object": "embedding", "embedding": row, "index": index} for index, row in enumerate(vectors)]
    usage = {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens}
    answer = {"object": "list", "data": data, "model": wanted.model, "usage": usage}
    return json_response(answer, newline=True, charset=False)


async def models(request: web.Request) -> web.Response:
    records = await asyncio.to_thread(request.app[HOUSE].library.models)
    data = [_model(record, record.entry.name.short()) for record in records]
    return json_response({"object": "list", "data": data or None}, newline=True, charset=False)


async def model(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    parsed = parse_name(name)
    record = await asyncio.to_thread(request.app[HOUSE].library.find, parsed)
    if record is None:
        raise ModelNotFound(f"model '{parsed.short()}' not found")
    return json_response(_model(record, name), newline=True, charset=False)


def _model(record: Record, name: str) -> dict[str, Any]:
    created = record.entry.mtime_ns // 10**9
    return {"id": name, "object": "model", "created": created, "owned_by": record.entry.name.namespace}


def _include_usage(fields: dict[str, Any]) -> bool:
    return bool(fields.get("stream_options", {}).get("include_usage"))


# -- spelling -------------------------------------------------------------------------------------------


class ChatEvents:
    """``data:`` events of one chat answer; the role stands in the first one only."""

    content_type = SSE

    def __init__(self, model: str, *, usage: bool) -> None:
        self._usage = usage
        self._begun = False
        self._called = False
        self._top = {
            "id": f"chatcmpl-{random.randrange(999)}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }
        self._head = b"data: " + gojson.encode(self._top)[:-1] + b',"choices":'

    def piece(self, chunk: Chunk) -> bytes:
        delta = b"" if self._begun else b'"role":"assistant",'
        self._begun = True
        if chunk.content or not (chunk.thinking or chunk.tool_calls):
            delta += b'"content":' + gojson.encode(chunk.content) + b","
        if chunk.thinking:
            delta += b'"reasoning":' + gojson.encode(chunk.thinking) + b","
        if chunk.tool_calls:
            self._called = True
            delta += b'"tool_calls":' + gojson.encode([tool_call(call) for call in chunk.tool_calls]) + b","
        tail = b""
        if chunk.logprobs:
            tail = b',"logprobs":' + gojson.encode({"content": logprobs(chunk.logprobs)})
        return b'%s[{"index":0,"delta":{%s},"finish_reason":null%s}]}\n\n' % (self._head, delta[:-1], tail)

    def last(self, chunk: Chunk, final: Final) -> bytes:
        text = chunk.content or chunk.thinking or chunk.tool_calls or chunk.logprobs
        before = self.piece(chunk) if text else b""
        reason = gojson.encode(self._reason(final))
        end = b'%s[{"index":0,"delta":{},"finish_reason":%s}]}\n\n' % (self._head, reason)
        usage = b""
        if self._usage:
            usage = self._head + b'[],"usage":' + gojson.encode(usage_of(final)) + b"}\n\n"
        return before + end + usage + DONE

    def error(self, message: str) -> bytes:
        return error_event(message)

    def whole(self, chunk: Chunk, final: Final) -> dict[str, Any]:
        self._called = bool(chunk.tool_calls)
        message: dict[str, Any] = {"role": "assistant", "content": chunk.content}
        if chunk.thinking:
            message["reasoning"] = chunk.thinking
        if chunk.tool_calls:
            message["tool_calls"] = [tool_call(call) for call in chunk.tool_calls]
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": self._reason(final)}
        if chunk.logprobs:
            choice["logprobs"] = {"content": logprobs(chunk.logprobs)}
        return self._top | {"object": "chat.completion", "choices": [choice], "usage": usage_of(final)}

    def _reason(self, final: Final) -> str:
        return "tool_calls" if self._called and final.reason == "stop" else final.reason


class CompletionEvents:
    """The older completion: the model's name stands behind the choices, each event may carry an empty usage."""

    content_type = SSE

    def __init__(self, model: str, *, usage: bool) -> None:
        self._top = {
            "id": f"cmpl-{random.randrange(999)}",
            "object": "text_completion",
            "created": int(time.time()),
        }
        self._names = {"model": model, "system_fingerprint": FINGERPRINT}
        self._usage = usage
        none = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
        self._head = b"data: " + gojson.encode(self._top)[:-1] + b',"choices":[{"text":'
        self._tail = b"," + gojson.encode(self._names | (none if usage else {}))[1:] + b"\n\n"

    def piece(self, chunk: Chunk) -> bytes:
        text = gojson.encode(chunk.content)
        return b'%s%s,"index":0,"finish_reason":null}]%s' % (self._head, text, self._tail)

    def last(self, chunk: Chunk, final: Final) -> bytes:
        before = self.piece(chunk) if chunk.content else b""
        reason = gojson.encode(final.reason)
        end = b'%s"","index":0,"finish_reason":%s}]%s' % (self._head, reason, self._tail)
        usage = b""
        if self._usage:
            whole = self._top | {"choices": []} | self._names | {"usage": usage_of(final)}
            usage = b"data: " + gojson.encode(whole) + b"\n\n"
        return before + end + usage + DONE

    def error(self, message: str) -> bytes:
        return error_event(message)

    def whole(self, chunk: Chunk, final: Final) -> dict[str, Any]:
        choice = {"text": chunk.content, "index": 0, "finish_reason": final.reason}
        return self._top | self._names | {"choices": [choice], "usage": usage_of(final)}


def error_event(message: str) -> bytes:
    error = {"message": message, "type": "api_error", "param": None, "code": None}
    return b"data: " + gojson.encode({"error": error}) + b"\n\n"


def usage_of(final: Final) -> dict[str, int]:
    return {
        "prompt_tokens": final.prompt_tokens,
        "completion_tokens": final.output_tokens,
        "total_tokens": final.prompt_tokens + final.output_tokens,
    }


def tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": gojson.encode(call.arguments).decode()}
    return {"id": call.id, "index": call.index or 0, "type": "function", "function": function}
