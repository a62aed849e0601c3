"""Anthropic's routes, ``/v1/messages`` and ``/v1/messages/count_tokens``: a translation to the same hallway.

As under Ollama, the model's own defaults for sampling hold, and thinking asked of a model that cannot think is no
error: it is not asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from aiohttp import web

from server import inference
from server.api import anthropic_requests, requestlog
from server.api.anthropic_events import MessageEvents
from server.api.anthropic_requests import COUNT, MESSAGES
from server.api.bodies import check_text, read_json
from server.api.decode import Struct, decode
from server.api.state import HOUSE
from server.api.streaming import collect, json_response, stream
from server.inference import House
from server.types import ChatRequest, Chunk


async def messages(request: web.Request) -> web.StreamResponse:
    body, fields = await _read(request, MESSAGES)
    shown, stops = anthropic_requests.shows_thinking(fields), anthropic_requests.stops(fields)
    wanted = await _able(request, body, anthropic_requests.chat_request(fields))
    writer = MessageEvents(wanted.model, stops=stops, most=fields["max_tokens"], thinking=shown)
    house = request.app[HOUSE]
    chunks = await inference.chat(house, wanted)
    if fields.get("stream"):
        return await stream(request, _counted(house, wanted, chunks, writer), writer)
    return json_response(writer.whole(*await collect(request, chunks)), charset=False)


async def count_tokens(request: web.Request) -> web.Response:
    """Of the whole prompt as the model's template renders it, tools and system included."""
    body, fields = await _read(request, COUNT)
    wanted = await _able(request, body, anthropic_requests.count_request(fields))
    count = await inference.count(request.app[HOUSE], replace(wanted, truncate=False))
    return json_response({"input_tokens": count}, charset=False)


async def _read(request: web.Request, struct: Struct) -> tuple[bytes, dict[str, Any]]:
    body = await read_json(request, images=True)
    return body, decode(body, struct, empty="EOF")


async def _able(request: web.Request, body: bytes, wanted: ChatRequest) -> ChatRequest:
    """The request without thoughts that its model cannot have."""
    check_text(body, (image for message in wanted.messages for image in message.images))
    requestlog.of(request).model = wanted.model
    if not wanted.think:
        return wanted
    spec = await inference.resolve(request.app[HOUSE], wanted.model)
    return wanted if "thinking" in spec.capabilities else replace(wanted, think=None)


async def _counted(
    house: House, wanted: ChatRequest, chunks: AsyncGenerator[Chunk, None], writer: MessageEvents
) -> AsyncGenerator[Chunk, None]:
    """The same chunks; the prompt's tokens, which message_start tells, are counted beside the first of them."""
    counting = asyncio.create_task(inference.count(house, wanted))
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                if not writer.begun:
                    writer.input_tokens = await counting
                yield chunk
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
