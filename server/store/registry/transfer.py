"""One blob from a source into the store: parallel ranges, a hash that follows them, notes for a restart.

Streams claim the parts in order and write them where they belong; a follower hashes the gapless beginning from the
page cache, so that the hash is known moments after the last byte came. Whoever breaks off leaves what is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from server.errors import ServerError, StoreError, UpstreamError
from server.store.registry.partial import PartialBlob
from server.store.registry.parts import Part, prefix
from server.store.registry.settings import Settings
from server.store.registry.source import NoRanges, Source, passing, wait_of
from server.store.registry.transport import NetworkError

logger = logging.getLogger(__name__)
T = TypeVar("T")

WRITE = 1 << 20
HASH_STEP = 64 << 20
HASH_LEAST = 4 << 20
NOTE_SECONDS = 1.0
MAX_UNNOTED = 64_000_000  # what a kill may cost; streams wait for the notes beyond it
LOCK_SECONDS = 0.5
MAX_WAIT = 60.0


class Transfer:
    """``run`` once; ``completed`` and ``total`` (bytes) may be read meanwhile."""

    def __init__(self, partial: PartialBlob, source: Source, settings: Settings, threads: ThreadPoolExecutor) -> None:
        self.total = partial.total
        self._partial = partial
        self._source = source
        self._settings = settings
        self._threads = threads
        self._news = asyncio.Event()
        self._whole = False
        self._unnoted = min(settings.part_size or MAX_UNNOTED, MAX_UNNOTED)
        self._noted = 0
        self._note_due = asyncio.Event()
        self._notes_done = asyncio.Event()

    @property
    def completed(self) -> int:
        return self._partial.completed

    async def run(self, there: Callable[[], bool]) -> None:
        """``there``: whether the blob has its name by now, through another process. ServerError."""
        while not await self._thread(self._partial.open, self._settings.part_size):
            await asyncio.sleep(LOCK_SECONDS)
            if there():
                return
        try:
            if there():
                await self._thread(self._partial.discard)
                return
            await self._receive_all()
            await self._thread(self._partial.publish)
        except (ServerError, asyncio.CancelledError):
            await self._thread(self._leave_notes)
            raise
        finally:
            await self._thread(self._partial.close)

    def _leave_notes(self) -> None:
        with suppress(StoreError):  # a full disk was told already
            if self._partial.exists() and self._partial.completed:
                self._partial.checkpoint()

    async def _receive_all(self) -> None:
        try:
            await self._receive_parts(self._settings.streams)
        except NoRanges:
            await self._thread(self._partial.whole)
            self._whole = True
            await self._receive_parts(1)

    async def _receive_parts(self, streams: int) -> None:
        unclaimed = iter([part for part in self._partial.parts if part.left])
        try:
            async with asyncio.TaskGroup() as group:
                noting = group.create_task(self._note())
                receiving = [group.create_task(self._stream(unclaimed)) for _ in range(streams)]
                hashing = group.create_task(self._follow())
                await asyncio.wait([*receiving, hashing], return_when=asyncio.FIRST_EXCEPTION)
                noting.cancel()
        except* NoRanges:
            raise NoRanges from None
        except* ServerError as group_of_errors:
            raise _first(group_of_errors) from None

    # -- streams ------------------------------------------------------------------------------------------

    async def _stream(self, unclaimed: Iterator[Part]) -> None:
        for part in unclaimed:
            await self._fetch(part)

    async def _fetch(self, part: Part) -> None:
        """All of a part. Tries that brought something do not count."""
        failures = 0
        while part.left:
            before = part.completed
            try:
                await self._receive(part)
            except ServerError as error:
                if not passing(error):
                    raise
                failures = 0 if part.completed > before else failures + 1
                if failures >= self._settings.retries:
                    raise UpstreamError(f"max retries exceeded: {error.message}", status=500) from error
                if isinstance(error, NetworkError) and error.stalled and not failures:
                    continue
                logger.info("part %d of %s: %s; trying again", part.number, self._partial.digest, error.message)
                await asyncio.sleep(self._pause(error, failures))

    def _pause(self, error: Exception, failures: int) -> float:
        wait = wait_of(error)
        return min(self._settings.backoff * 2 ** max(failures - 1, 0) if wait is None else wait, MAX_WAIT)

    async def _receive(self, part: Part) -> None:
        async with self._source.read(part.start, part.end, whole=self._whole) as (response, skip):
            batch: list[bytes] = []
            size, wanted = 0, part.left
            try:
                async for data in response.content.iter_any():
                    if skip:
                        skip, data = skip - min(skip, len(data)), data[skip:]
                    data = data[:wanted]
                    wanted -= len(data)
                    batch.append(data)
                    size += len(data)
                    if size >= WRITE or not wanted:
                        writing, batch, size = batch, [], 0
                        await self._write(part, writing)
                        await self._wait_for_notes()
                    if not wanted:
                        break
            finally:
                if size:
                    await self._write(part, batch)
        if part.left:
            raise NetworkError(f"the answer ended {part.left} bytes early")

    async def _write(self, part: Part, batch: list[bytes]) -> None:
        await self._thread(self._partial.write, part, batch)
        self._news.set()
        if self.completed - self._noted >= self._unnoted / 4:
            self._note_due.set()

    async def _wait_for_notes(self) -> None:
        if self.completed - self._noted >= self._unnoted:
            self._notes_done.clear()
            await self._notes_done.wait()

    # -- followers ----------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        partial = self._partial
        while partial.hashed < self.total:
            end = prefix(partial.parts)
            if end == self.total or end - partial.hashed >= HASH_LEAST:
                await self._thread(partial.digest_to, min(end, partial.hashed + HASH_STEP))
            else:
                self._news.clear()
                if prefix(partial.parts) == end:
                    await self._news.wait()

    async def _note(self) -> None:
        """A checkpoint when enough has come, and about once a second."""
        self._noted = self.completed
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTE_SECONDS):
                    await self._note_due.wait()
            self._note_due.clear()
            if (completed := self.completed) != self._noted:
                await self._thread(self._partial.checkpoint)
                self._noted = completed
            self._notes_done.set()

    async def _thread(self, work: Callable[..., T], *given: object) -> T:
        """In our threads; whoever is cancelled waits for them, so that no file is closed under a write."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*given))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise


def _first(group: BaseExceptionGroup[ServerError]) -> ServerError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ServerError)
    return error
