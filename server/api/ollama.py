"""The native inference routes: ``/api/generate``, ``/api/chat``, ``/api/embed``, ``/api/embeddings``.

Key order, escapes and which keys are left out are Ollama's. ``truncated`` is ours: it is there when something
was cut from the input, where Ollama says nothing.
"""

from __future__ import annotations

import array
import asyncio
import sys
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from aiohttp import web

from modelfiles import gotemplate
from modelfiles.errors import TemplateError
from server import inference
from server.api import gojson, requestlog
from server.api.bodies import check_text, read_json
from server.api.decode import decode
from server.api.requests import (
    CHAT,
    EMBED,
    EMBEDDINGS,
    GENERATE,
    chat_request,
    check_top_logprobs,
    completion_request,
    embed_request,
    format_error,
    model_options,
)
from server.api.state import HOUSE
from server.api.streaming import NDJSON, collect, json_response, stream
from server.errors import InvalidRequest, ServerError
from server.types import Chunk, Embeddings, EmbedRequest, Final, Logprob, ToolCall


async def generate(request: web.Request) -> web.StreamResponse:
    body = await read_json(request, images=True)
    fields = decode(body, GENERATE)
    check_top_logprobs(fields)
    wanted = completion_request(fields)
    check_text(body, wanted.images)
    writer = _begin(request, GenerateWriter, wanted.model, len(wanted.images))
    chunks = await inference.complete(request.app[HOUSE], wanted)
    if wanted.prompt and wanted.template:
        await asyncio.to_thread(check_template, wanted.template)
    if wanted.prompt and not wanted.render_only:
        return await _generated(request, chunks, writer, fields)
    return await _whole(request, chunks, writer)


async def chat(request: web.Request) -> web.StreamResponse:
    body = await read_json(request, images=True)
    fields = decode(body, CHAT)
    check_top_logprobs(fields)
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    wanted = chat_request(fields)
    images = [image for message in wanted.messages for image in message.images]
    check_text(body, images)
    writer = _begin(request, ChatWriter, wanted.model, len(images))
    chunks = await inference.chat(request.app[HOUSE], wanted)
    if wanted.messages and not wanted.render_only:
        return await _generated(request, chunks, writer, fields)
    return await _whole(request, chunks, writer)


async def embed(request: web.Request) -> web.StreamResponse:
    wanted = embed_request(decode(await read_json(request), EMBED))
    log = requestlog.of(request)
    log.model = wanted.model
    found = await inference.embed(request.app[HOUSE], wanted)
    answer: dict[str, Any] = {"model": wanted.model, "embeddings": short_rows(found) if found.count else []}
    if found.count:
        answer["total_duration"] = log.elapsed()
        answer["load_duration"] = max(1, found.load_ns)
        answer |= {"prompt_eval_count": found.prompt_tokens} if found.prompt_tokens else {}
    return json_response(answer)


async def embeddings(request: web.Request) -> web.StreamResponse:
    fields = decode(await read_json(request), EMBEDDINGS)
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    prompt = fields.get("prompt", "")
    wanted = EmbedRequest(
        fields["model"],
        (prompt,) if prompt else (),
        options=model_options(fields),
        keep_alive=fields.get("keep_alive"),
    )
    requestlog.of(request).model = wanted.model
    found = await inference.embed(request.app[HOUSE], wanted)
    return json_response({"embedding": rows(found)[0] if found.count else []})


def rows(found: Embeddings) -> list[list[float]]:
    """The vectors as lists of doubles (the legacy route prints them in full)."""
    values = array.array("f", found.vectors)
    if sys.byteorder == "big":
        values.byteswap()
    return [values[start : start + found.width].tolist() for start in range(0, len(values), found.width or 1)]


def short_rows(found: Embeddings) -> orjson.Fragment:
    """The vectors as JSON with the fewest digits that name each float32."""
    # Only here: numpy costs the server process 25 MB that chat never needs.
    import numpy as np

    matrix = np.frombuffer(found.vectors, dtype="<f4").reshape(found.count, found.width)
    return orjson.Fragment(orjson.dumps(np.ascontiguousarray(matrix), option=orjson.OPT_SERIALIZE_NUMPY))


# -- spelling -------------------------------------------------------------------------------------------


class NativeWriter:
    """What generate and chat share. Subclasses say how a piece of text stands in its object."""

    content_type = NDJSON

    def __init__(self, model: str, log: requestlog.RequestLog, images: int) -> None:
        self._log = log
        self._images = images
        self._head = b'{"model":' + gojson.encode(model) + b',"created_at":"'

    def _text(self, chunk: Chunk) -> bytes:
        """From behind ``created_at`` up to, not including, ``"done"``."""
        raise NotImplementedError

    def _tail(self, chunk: Chunk, final: Final) -> bytes:
        """From behind ``done_reason`` to the object's end; begins with a comma unless empty."""
        raise NotImplementedError

    def piece(self, chunk: Chunk) -> bytes:
        end = b'"done":false}\n'
        if chunk.logprobs:
            end = b'"done":false,"logprobs":' + gojson.encode(logprobs(chunk.logprobs)) + b"}\n"
        return self._head + gojson.timestamp().encode() + self._text(chunk) + end

    def last(self, chunk: Chunk, final: Final) -> bytes:
        """Metrics stand alone in the last line: a final chunk that carries text becomes two lines."""
        before = b""
        if chunk.content or chunk.thinking or chunk.tool_calls or chunk.logprobs:
            before = self.piece(chunk)
        return before + self.whole(Chunk(), final) + b"\n"

    def whole(self, chunk: Chunk, final: Final) -> bytes:
        """One object that holds all of an answer."""
        head = self._head + gojson.timestamp().encode() + self._text(chunk)
        if final.rendered is not None:
            info = {"rendered_template": final.rendered} | ({"image_count": self._images} if self._images else {})
            return head + b'"done":false,"_debug_info":' + gojson.encode(info) + b"}"
        return head + b'"done":true,"done_reason":' + gojson.encode(final.reason) + self._tail(chunk, final) + b"}"

    def error(self, message: str) -> bytes:
        return gojson.encode({"error": message}) + b"\n"

    def _metrics(self, final: Final) -> bytes:
        """Durations are in nanoseconds and never zero; a loaded or unloaded model has none to tell."""
        if final.reason in ("load", "unload"):
            return b""
        found = {
            "total_duration": self._log.elapsed(),
            "load_duration": max(1, final.load_ns),
            "prompt_eval_count": final.prompt_tokens,
            "prompt_eval_duration": max(1, final.prompt_ns),
            "eval_count": final.output_tokens,
            "eval_duration": max(1, final.decode_ns),
            "truncated": final.truncated,
        }
        return b"".join(b',"%s":%d' % (name.encode(), value) for name, value in found.items() if value)


class GenerateWriter(NativeWriter):
    def _text(self, chunk: Chunk) -> bytes:
        text = b'","response":' + gojson.encode(chunk.content) + b","
        if chunk.thinking:
            text += b'"thinking":' + gojson.encode(chunk.thinking) + b","
        return text

    def _tail(self, chunk: Chunk, final: Final) -> bytes:
        context = b',"context":' + orjson.dumps(final.context) if final.context else b""
        return context + self._metrics(final) + _logprobs_member(chunk)


class ChatWriter(NativeWriter):
    def _text(self, chunk: Chunk) -> bytes:
        text = b'","message":{"role":"assistant","content":' + gojson.encode(chunk.content)
        if chunk.thinking:
            text += b',"thinking":' + gojson.encode(chunk.thinking)
        if chunk.tool_calls:
            text += b',"tool_calls":' + gojson.encode([tool_call(call) for call in chunk.tool_calls])
        return text + b"},"

    def _tail(self, chunk: Chunk, final: Final) -> bytes:
        return _logprobs_member(chunk) + self._metrics(final)

    def whole(self, chunk: Chunk, final: Final) -> bytes:
        made = super().whole(chunk, final)
        if final.rendered is not None:
            return made.replace(b'"role":"assistant"', b'"role":""', 1)
        return made


def _logprobs_member(chunk: Chunk) -> bytes:
    return b',"logprobs":' + gojson.encode(logprobs(chunk.logprobs)) if chunk.logprobs else b""


def logprobs(found: tuple[Logprob, ...]) -> list[dict[str, Any]]:
    return [_logprob(item) | ({"top_logprobs": list(map(_logprob, item.top))} if item.top else {}) for item in found]


def _logprob(item: Logprob) -> dict[str, Any]:
    made: dict[str, Any] = {"token": item.token, "logprob": item.logprob}
    return made | ({"bytes": list(item.bytes)} if item.bytes else {})


def tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index or 0, "name": call.name, "arguments": call.arguments}
    return ({"id": call.id} if call.id else {}) | {"function": function}


def _begin(request: web.Request, writer: type[NativeWriter], model: str, images: int) -> NativeWriter:
    log = requestlog.of(request)
    log.model = model
    return writer(model, log, images)


def check_template(text: str) -> None:
    """A request's own TEMPLATE is read here, before anything is streamed; it is run in the worker alone."""
    try:
        gotemplate.Template.parse(text)
    except TemplateError as error:
        raise ServerError(str(error)) from None


async def _generated(
    request: web.Request, chunks: AsyncGenerator[Chunk, None], writer: NativeWriter, fields: dict[str, Any]
) -> web.StreamResponse:
    """In Ollama the engine looks at the format, so that an error of it is the first object of a stream."""
    error = format_error(fields)
    if error is not None:
        chunks = _failing(error)
    return await (stream if fields.get("stream", True) else _whole)(request, chunks, writer)


async def _failing(error: ServerError) -> AsyncGenerator[Chunk, None]:
    nothing: tuple[Chunk, ...] = ()
    for chunk in nothing:
        yield chunk
    raise error


async def _whole(request: web.Request, chunks: AsyncGenerator[Chunk, None], writer: NativeWriter) -> web.Response:
    chunk, final = await collect(request, chunks)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return web.Response(body=writer.whole(chunk, final), headers=headers)
