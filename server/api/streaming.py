"""How answers go out: a stream of chunks as NDJSON lines or server-sent events, or one JSON object.

The first chunk is awaited before any header is sent, so that an error before it has its real status; a later
one becomes the stream's last line. A client that leaves closes the generator at once; one that stops reading
for ``STALL_SECONDS`` is cut off. Knows nothing of any protocol's field names: a ``Writer`` per protocol does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Protocol

from aiohttp import web

from server.api import admission, gojson, requestlog
from server.types import Chunk, Final

STALL_SECONDS = 60.0
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Writer(Protocol):
    """Spells the chunks of one answer. ``piece`` may return nothing to send (``b""``)."""

    content_type: str

    def piece(self, chunk: Chunk) -> bytes: ...
    def last(self, chunk: Chunk, final: Final) -> bytes: ...
    def error(self, message: str) -> bytes: ...


def json_response(value: Any, status: int = 200, *, newline: bool = False, charset: bool = True) -> web.Response:
    """Ollama's native answers name the charset; those of its stream and OpenAI encoders do not."""
    kind = "application/json; charset=utf-8" if charset else "application/json"
    body = gojson.encode(value) + (b"\n" if newline else b"")
    return web.Response(body=body, status=status, headers={"Content-Type": kind})


class StallWatch:
    """Cuts a connection whose client has not taken anything for too long; costs two assignments per write."""

    def __init__(self, request: web.Request, seconds: float) -> None:
        self.writing_since = 0.0
        self._request = request
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds / 2, self._check)

    def _check(self) -> None:
        if self.writing_since and self._loop.time() - self.writing_since > self._seconds:
            if self._request.transport is not None:
                self._request.transport.abort()
            return
        self._timer = self._loop.call_later(self._seconds / 2, self._check)

    def stop(self) -> None:
        self._timer.cancel()


async def stream(request: web.Request, chunks: AsyncGenerator[Chunk, None], writer: Writer) -> web.StreamResponse:
    """Sends the whole stream; returns when its last line is out."""
    log = requestlog.of(request)
    log.streaming = True
    async with contextlib.aclosing(chunks):
        first = await anext(chunks)
        log.first()
        response = web.StreamResponse(headers={"Content-Type": writer.content_type})
        await response.prepare(request)
        watch = StallWatch(request, STALL_SECONDS)
        try:
            await send(response, watch, _spell(writer, first, log))
            await _rest(response, watch, chunks, writer, log)
        except (ConnectionError, asyncio.CancelledError) as error:
            if not admission.cut_short(request, error):
                raise
            await send(response, watch, writer.error(admission.SHUTTING_DOWN))
        except Exception as error:
            await send(response, watch, writer.error(log.failed(error)))
        finally:
            watch.stop()
        await response.write_eof()
    return response


async def _rest(
    response: web.StreamResponse,
    watch: StallWatch,
    chunks: AsyncIterator[Chunk],
    writer: Writer,
    log: requestlog.RequestLog,
) -> None:
    """The hot loop: one write per chunk, nothing else."""
    write, time, piece = response.write, asyncio.get_running_loop().time, writer.piece
    async for chunk in chunks:
        data = piece(chunk) if chunk.final is None else _spell(writer, chunk, log)
        if data:
            watch.writing_since = time()
            await write(data)
            watch.writing_since = 0.0


def _spell(writer: Writer, chunk: Chunk, log: requestlog.RequestLog) -> bytes:
    if chunk.final is None:
        return writer.piece(chunk)
    log.finished(chunk.final)
    return writer.last(chunk, chunk.final)


async def send(response: web.StreamResponse, watch: StallWatch, data: bytes) -> None:
    if data:
        watch.writing_since = asyncio.get_running_loop().time()
        await response.write(data)
        watch.writing_since = 0.0


async def collect(request: web.Request, chunks: AsyncGenerator[Chunk, None]) -> tuple[Chunk, Final]:
    """The whole answer as one chunk, and how it ended."""
    log = requestlog.of(request)
    parts: list[Chunk] = []
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if not parts:
                log.first()
            parts.append(chunk)
    final = parts[-1].final if parts else None
    if final is None:
        raise RuntimeError("a stream ends with a final chunk")
    log.finished(final)
    return joined(parts), final


def joined(parts: Sequence[Chunk]) -> Chunk:
    """The pieces of one answer as one chunk."""
    return Chunk(
        content="".join(part.content for part in parts),
        thinking="".join(part.thinking for part in parts),
        tool_calls=tuple(call for part in parts for call in part.tool_calls),
        logprobs=tuple(item for part in parts for item in part.logprobs),
        final=parts[-1].final if parts else None,
    )
