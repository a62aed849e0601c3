"""Several answers to one question, side by side: OpenAI's ``n``.

Their chunks come mixed, as they are made; each says whose it is. The last chunk of all is a plain one, whose ``final``
counts the prompt once and the tokens of every answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from aiohttp import web

from server.api import requestlog
from server.api.streaming import SSE, joined
from server.types import Chunk, Final

Answers = Sequence[AsyncGenerator[Chunk, None]]


@dataclass(frozen=True, slots=True)
class Piece(Chunk):
    """A chunk of answer ``index``; ``ended`` stands in its last one, where ``final`` would."""

    index: int = 0
    ended: Final | None = None


class ChoiceWriter(Protocol):
    """A ``Writer`` that can end its own choice and, apart from that, the whole stream."""

    def piece(self, chunk: Chunk) -> bytes: ...
    def end(self, chunk: Chunk, final: Final) -> bytes: ...
    def close(self, final: Final) -> bytes: ...
    def error(self, message: str) -> bytes: ...


class ChoicesWriter:
    """A ``Writer`` over one writer per choice."""

    content_type = SSE

    def __init__(self, each: Sequence[ChoiceWriter]) -> None:
        self._each = each

    def piece(self, chunk: Chunk) -> bytes:
        if not isinstance(chunk, Piece):
            raise TypeError("a chunk of one of several answers says whose it is")
        writer = self._each[chunk.index]
        return writer.piece(chunk) if chunk.ended is None else writer.end(chunk, chunk.ended)

    def last(self, chunk: Chunk, final: Final) -> bytes:
        return self._each[0].close(final)

    def error(self, message: str) -> bytes:
        return self._each[0].error(message)


async def side_by_side(answers: Answers) -> AsyncGenerator[Chunk, None]:
    """The first error of any answer ends them all."""
    pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_feed(pieces, index, answer)) for index, answer in enumerate(answers)]
    for task in tasks:
        task.add_done_callback(lambda _: pieces.put_nowait(None))
    finals: list[Final] = []
    try:
        while len(finals) < len(tasks):
            piece = await pieces.get()
            if piece is None:
                _raise_first(tasks)
                continue
            if piece.ended is not None:
                finals.append(piece.ended)
            yield piece
        yield Chunk(final=_total(finals))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _feed(pieces: asyncio.Queue[Piece | None], index: int, answer: AsyncGenerator[Chunk, None]) -> None:
    async with aclosing(answer):
        async for c in answer:
            pieces.put_nowait(Piece(c.content, c.thinking, c.tool_calls, c.logprobs, None, index, c.final))


def _raise_first(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def _total(finals: Sequence[Final]) -> Final:
    return replace(
        finals[0],
        output_tokens=sum(final.output_tokens for final in finals),
        decode_ns=max(final.decode_ns for final in finals),
    )


async def collect_each(request: web.Request, answers: Answers) -> tuple[list[tuple[Chunk, Final]], Final]:
    """Every whole answer with its end, and what all of them cost."""
    log = requestlog.of(request)
    parts: list[list[Chunk]] = [[] for _ in answers]
    ends: dict[int, Final] = {}
    total: Final | None = None
    async with aclosing(side_by_side(answers)) as chunks:
        async for chunk in chunks:
            if not log.ttft:
                log.first()
            total = chunk.final
            if isinstance(chunk, Piece):
                parts[chunk.index].append(chunk)
                ends |= {chunk.index: chunk.ended} if chunk.ended is not None else {}
    if total is None:
        raise RuntimeError("a stream ends with a final chunk")
    log.finished(total)
    return [(joined(part), ends[index]) for index, part in enumerate(parts)], total
