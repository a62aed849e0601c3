"""The progress objects of pull and push, with Ollama's keys and in its rhythm. Pure but for the waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from server.store.digests import Digest

TICK = 0.06
SHORT = 12
Event = dict[str, Any]


def blob_event(doing: str, digest: Digest, total: int, completed: int) -> Event:
    """``completed`` (and ``total``) are left out while they are 0, as Go leaves them out."""
    event: Event = {"status": f"{doing} {digest.hex[:SHORT]}", "digest": str(digest)}
    if total:
        event["total"] = total
    if completed:
        event["completed"] = completed
    return event


async def watch(task: asyncio.Task[None], look: Callable[[], Event]) -> AsyncGenerator[Event, None]:
    """``look()`` now, every tick while ``task`` runs, and at its end; then what the task raised."""
    yield look()
    last = look()
    while not task.done():
        await asyncio.wait([task], timeout=TICK)
        now = look()
        if not task.done() or now != last:
            yield now
        last = now
    if not task.cancelled():
        task.result()
