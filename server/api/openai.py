"""OpenAI's routes under ``/v1``: a translation to the same hallway, with the spellings and quirks of Ollama's.

Ours on purpose: every field that can change an answer is honoured or refused by its name (``docs/fields.md``), and an
error after the first event is an event of its own.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import orjson
from aiohttp import web

from server import inference
from server.api import gojson, openai_requests, requestlog
from server.api.bodies import check_text, read_json
from server.api.choices import ChoicesWriter, collect_each, side_by_side
from server.api.decode import decode
from server.api.ollama import short_rows
from server.api.openai_events import (
    ChatEvents,
    CompletionEvents,
    chat_object,
    chat_top,
    completion_object,
    completion_top,
)
from server.api.openai_requests import CHAT, COMPLETION, EMBEDDING, choices, variants
from server.api.state import HOUSE
from server.api.streaming import collect, json_response, stream
from server.errors import ModelNotFound
from server.store.library import parse_name
from server.store.record import Record


async def chat(request: web.Request) -> web.StreamResponse:
    body = await read_json(request, images=True)
    fields = decode(body, CHAT, empty="EOF")
    wanted = openai_requests.chat_request(fields)
    check_text(body, (image for message in wanted.messages for image in message.images))
    requestlog.of(request).model = wanted.model
    top, usage = chat_top(wanted.model), _include_usage(fields)
    each = variants(wanted, 1 if wanted.render_only else choices(fields))
    answers = [await inference.chat(request.app[HOUSE], one) for one in each]
    if fields.get("stream") and not wanted.render_only:
        if len(answers) == 1:
            return await stream(request, answers[0], ChatEvents(top, usage=usage))
        writer = ChoicesWriter([ChatEvents(top, index, usage=usage) for index in range(len(answers))])
        return await stream(request, side_by_side(answers), writer)
    if len(answers) > 1:
        return _answer(chat_object(top, *await collect_each(request, answers)))
    chunk, final = await collect(request, answers[0])
    if final.rendered is not None:
        return _answer({"_debug_info": {"rendered_template": final.rendered}})
    return _answer(chat_object(top, [(chunk, final)], final))


async def completions(request: web.Request) -> web.StreamResponse:
    fields = decode(await read_json(request), COMPLETION, empty="EOF")
    wanted = openai_requests.completion_request(fields)
    requestlog.of(request).model = wanted.model
    echo, usage = wanted.prompt if fields.get("echo") else "", _include_usage(fields)
    each = variants(wanted, choices(fields))
    answers = [await inference.complete(request.app[HOUSE], one) for one in each]
    if fields.get("stream"):
        top = completion_top()
        writers = [
            CompletionEvents(wanted.model, index, usage=usage, echo=echo, top=top) for index in range(len(answers))
        ]
        if len(answers) == 1:
            return await stream(request, answers[0], writers[0])
        return await stream(request, side_by_side(answers), ChoicesWriter(writers))
    if len(answers) > 1:
        return _answer(completion_object(wanted.model, *await collect_each(request, answers), echo))
    chunk, final = await collect(request, answers[0])
    return _answer(completion_object(wanted.model, [(chunk, final)], final, echo))


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
    return _answer({"object": "list", "data": data, "model": wanted.model, "usage": usage})


async def models(request: web.Request) -> web.Response:
    records = await asyncio.to_thread(request.app[HOUSE].library.models)
    data = [_model(record, record.entry.name.short()) for record in records]
    return _answer({"object": "list", "data": data or None})


async def model(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    parsed = parse_name(name)
    record = await asyncio.to_thread(request.app[HOUSE].library.find, parsed)
    if record is None:
        raise ModelNotFound(f"model '{parsed.short()}' not found")
    return _answer(_model(record, name))


def _model(record: Record, name: str) -> dict[str, Any]:
    """OpenAI's keys, then what clients cannot know otherwise: the trained window and what the model can do."""
    created = record.entry.mtime_ns // 10**9
    made: dict[str, Any] = {"id": name, "object": "model", "created": created}
    made["owned_by"] = record.entry.name.namespace
    if record.header is not None:
        made["context_length"] = record.header.context_length
    return made | {"capabilities": list(record.capabilities)}


def _answer(value: dict[str, Any]) -> web.Response:
    return json_response(value, newline=True, charset=False)


def _include_usage(fields: dict[str, Any]) -> bool:
    return bool(fields.get("stream_options", {}).get("include_usage"))
