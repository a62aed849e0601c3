"""Where the bytes of one blob come from: the registry itself, or the place it redirects to, asked for ranges.

The place is found once and kept while it answers (a signed URL runs out: then it is looked for again). What is not the
range that was asked for is refused before a byte of it is taken.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from server.errors import UpstreamError
from server.store.registry.remote import Remote, StatusError, status_error
from server.store.registry.transport import NetworkError, read_bounded

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
MAX_ERROR = 16 * 1024
EXPIRED = (401, 403, 404, 410)
PASSING = (408, 425, 429, 500, 502, 503, 504)


class Broken(UpstreamError):
    """Not what was asked for, or not yet: worth another try. ``wait``: seconds that the server asked for."""

    status = 500

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class NoRanges(Exception):
    """The source sends whole blobs only."""


class Source:
    def __init__(self, remote: Remote, url: URL, total: int) -> None:
        self.total = total
        self._remote = remote
        self._url = url
        self._direct: URL | None = None
        self._search = asyncio.Lock()

    @asynccontextmanager
    async def read(self, start: int, end: int, *, whole: bool) -> AsyncIterator[tuple[aiohttp.ClientResponse, int]]:
        """The answer to a GET of bytes ``start`` to ``end``, and how many of its bytes lie before ``start``.

        NoRanges when it would be all bytes though they were not asked for as a ``whole``.
        """
        searching = await self._may_search()
        try:
            async with self._answer(start, end) as (response, place):
                if searching:
                    self._direct = place
                    self._search.release()
                    searching = False
                yield response, self._skipped(response, start, end, whole)
        finally:
            if searching:
                self._search.release()

    async def _may_search(self) -> bool:
        """True for the one who has to find the place; the others wait for what it finds."""
        if self._known():
            return False
        await self._search.acquire()
        if self._known():
            self._search.release()
            return False
        return True

    def _known(self) -> bool:
        return self._direct is not None

    @asynccontextmanager
    async def _answer(self, start: int, end: int) -> AsyncIterator[tuple[aiohttp.ClientResponse, URL]]:
        known = self._direct
        headers = {"Range": f"bytes={start}-{end - 1}"}
        async with self._remote.follow(known or self._url, headers) as (response, place):
            if response.status not in (200, 206):
                data = await read_bounded(response, MAX_ERROR)
                error = status_error(response, data)
                if known is not None and known != self._url and response.status in EXPIRED:
                    self._direct = None
                    raise Broken(f"the place of the blob is gone: {error.message}")
                if response.status in PASSING:
                    raise Broken(error.message, error.wait)
                raise error
            yield response, place

    def _skipped(self, response: aiohttp.ClientResponse, start: int, end: int, whole: bool) -> int:
        if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise UpstreamError("the registry sends blobs compressed", status=500)
        if response.status == 200:
            self._check_length(response, self.total)
            if not whole and (start, end) != (0, self.total):
                raise NoRanges
            return start
        found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if found is None or (int(found[1]), int(found[2])) != (start, end - 1):
            raise Broken("the server answered with another range than was asked for")
        if found[3] not in ("*", str(self.total)):
            raise UpstreamError(f"the blob has {found[3]} bytes, its manifest says {self.total}", status=500)
        self._check_length(response, end - start)
        return 0

    def _check_length(self, response: aiohttp.ClientResponse, expected: int) -> None:
        if response.content_length not in (None, expected):
            raise UpstreamError(
                f"the server announced {response.content_length} bytes where {expected} were expected", status=500
            )


def wait_of(error: Exception) -> float | None:
    """Seconds that the error says to wait; None where it leaves that to us."""
    return error.wait if isinstance(error, Broken | StatusError) else None


def passing(error: Exception) -> bool:
    """Whether the same request may succeed in a moment."""
    return isinstance(error, Broken | NetworkError)
