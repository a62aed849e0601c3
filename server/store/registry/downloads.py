"""Transfers that several may want: N pulls of one blob are one transfer, and it ends when the last of them leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from server.errors import ServerError
from server.store.digests import Digest
from server.store.library import Library
from server.store.registry.partial import PartialBlob
from server.store.registry.settings import Settings
from server.store.registry.source import Source
from server.store.registry.transfer import Transfer

THREADS = 6


@dataclass(slots=True)
class Shared:
    transfer: Transfer
    task: asyncio.Task[None]
    listeners: int = 0


class Downloads:
    """The transfers of one store, in threads of their own so that a busy disk holds up nobody else's."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self._library = library
        self._settings = settings
        self._running: dict[Digest, Shared] = {}
        self._threads = ThreadPoolExecutor(THREADS, "transfer")

    @asynccontextmanager
    async def join(self, digest: Digest, source: Source) -> AsyncIterator[tuple[Transfer, asyncio.Task[None], bool]]:
        """The transfer of ``digest``; True when it was begun here, from ``source``, and not on its way already."""
        running = self._running.get(digest)
        shared = running or self._begin(digest, source)
        shared.listeners += 1
        try:
            yield shared.transfer, shared.task, running is None
        finally:
            shared.listeners -= 1
            if not shared.listeners:
                await self._end(digest, shared)

    def _begin(self, digest: Digest, source: Source) -> Shared:
        blobs = self._library.blobs
        partial = PartialBlob(blobs, digest, source.total)
        transfer = Transfer(partial, source, self._settings, self._threads)
        task = asyncio.create_task(transfer.run(lambda: blobs.size(digest) == source.total))
        shared = self._running[digest] = Shared(transfer, task)
        return shared

    async def _end(self, digest: Digest, shared: Shared) -> None:
        """Whoever comes from now on begins anew, and waits for the file until this one has let go of it."""
        if self._running.get(digest) is shared:
            del self._running[digest]
        shared.task.cancel()
        with suppress(asyncio.CancelledError, ServerError):
            await shared.task

    async def close(self) -> None:
        """End what runs, leaving its notes."""
        for digest, shared in list(self._running.items()):
            await self._end(digest, shared)
        self._threads.shutdown(wait=False)
