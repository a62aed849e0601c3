"""A stretch of a blob as the body of a request: read in a thread, counted, summed, and watched for stalls."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BufferedReader

from server.errors import StoreError
from server.store.disk import disk_errors
from server.store.registry.transport import NetworkError

CHUNK = 1 << 20


class Sending:
    """``md5``: of what the last ``body`` gave out, for the etag of the whole."""

    def __init__(self, file: BufferedReader, start: int, size: int, stall: float) -> None:
        self.start = start
        self.size = size
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._file = file
        self._stall = stall
        self._timer: asyncio.Timeout | None = None
        self._count: Callable[[int], None] = lambda position: None

    @asynccontextmanager
    async def watched(self, count: Callable[[int], None]) -> AsyncIterator[None]:
        """Around one request: ``count`` hears how far the blob went. NetworkError when nothing moves for too long."""
        self._count = count
        try:
            async with asyncio.timeout(None) as self._timer:
                yield
        except TimeoutError as error:
            raise NetworkError("stalled: the registry takes no more data", stalled=True) from error
        finally:
            self._timer = None

    async def body(self) -> AsyncIterator[bytes]:
        self.md5 = hashlib.md5(usedforsecurity=False)
        position, end = self.start, self.start + self.size
        while position < end:
            self._again_within(self._stall)
            data = await asyncio.to_thread(self._read, position, min(CHUNK, end - position))
            self.md5.update(data)
            yield data
            position += len(data)
            self._count(position)
        self._again_within(None)  # what the registry does with it may take its time

    def _again_within(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    def _read(self, position: int, size: int) -> bytes:
        with disk_errors("reading a blob to push"):
            data = os.pread(self._file.fileno(), size, position)
        if not data:
            raise StoreError("reading a blob to push: it is shorter than its manifest says; see `llamada fsck`")
        return data
