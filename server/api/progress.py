"""How create, pull and push are answered: their progress objects as NDJSON lines, or the last one alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web

from server.api import admission, gojson, requestlog
from server.api.streaming import NDJSON, STALL_SECONDS, StallWatch, send


async def answer_events(
    request: web.Request, events: AsyncGenerator[dict[str, Any], None], *, wants_stream: bool
) -> web.StreamResponse:
    """All events as a stream, or the last one alone."""
    if wants_stream:
        return await progress(request, events)
    requestlog.of(request).streaming = True
    last: dict[str, Any] = {}
    async for event in events:
        last = event
    return web.Response(body=gojson.encode(last), headers={"Content-Type": "application/json"})


async def progress(request: web.Request, events: AsyncGenerator[dict[str, Any], None]) -> web.StreamResponse:
    """The status objects of create, pull and push as NDJSON; an error after the first is the last line."""
    log = requestlog.of(request)
    log.streaming = True
    async with contextlib.aclosing(events):
        first = await anext(events)
        response = web.StreamResponse(headers={"Content-Type": NDJSON})
        await response.prepare(request)
        watch = StallWatch(request, STALL_SECONDS)
        try:
            await send(response, watch, gojson.encode(first) + b"\n")
            async for event in events:
                await send(response, watch, gojson.encode(event) + b"\n")
        except (ConnectionError, asyncio.CancelledError) as error:
            if not admission.cut_short(request, error):
                raise
            await send(response, watch, gojson.encode({"error": admission.SHUTTING_DOWN}) + b"\n")
        except Exception as error:
            await send(response, watch, gojson.encode({"error": log.failed(error)}) + b"\n")
        finally:
            watch.stop()
        await response.write_eof()
    return response
