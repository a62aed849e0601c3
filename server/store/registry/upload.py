"""One blob from the store to a registry: a session, its parts in order, a commit.

Plain OCI registries take the bytes of a part themselves; Ollama's redirects each part to a place outside, which gets
the bytes and no credentials. What breaks is begun again: a part outside alone, else the session.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from yarl import URL

from modelfiles.errors import InvalidName
from modelfiles.names import ModelName
from server.errors import UpstreamError
from server.store.blobs import Blobs
from server.store.manifests import Layer
from server.store.registry.remote import Remote, StatusError, check
from server.store.registry.sending import Sending
from server.store.registry.settings import Settings
from server.store.registry.source import PASSING
from server.store.registry.transport import REDIRECTS, NetworkError, redirect_target
from server.store.registry.urls import parse_url

logger = logging.getLogger(__name__)

MIN_PART, MAX_PART, WANTED_PARTS = 100_000_000, 1_000_000_000, 16


class Upload:
    """``run`` once; ``completed`` and ``total`` (bytes) may be read meanwhile."""

    def __init__(self, remote: Remote, blobs: Blobs, layer: Layer, settings: Settings) -> None:
        self.total = layer.size
        self.completed = 0
        self._remote = remote
        self._blobs = blobs
        self._layer = layer
        self._settings = settings

    async def run(self) -> None:
        await self._again(self._session)
        self.completed = self.total

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await work()
                return
            except (NetworkError, StatusError) as error:
                wait = error.wait if isinstance(error, StatusError) else None
                if isinstance(error, StatusError) and error.code not in PASSING:
                    raise
                failures += 1
                if failures >= self._settings.retries:
                    raise UpstreamError(f"max retries exceeded: {error.message}", status=500) from error
                logger.info("pushing %s: %s; trying again", self._layer.digest, error.message)
                await asyncio.sleep(self._settings.backoff * 2 ** (failures - 1) if wait is None else min(wait, 60.0))

    async def _session(self) -> None:
        self.completed = 0
        location = await self._begin()
        if location is None:
            return
        part, sums = self._settings.part_size or min(max(self.total // WANTED_PARTS, MIN_PART), MAX_PART), []
        with self._blobs.open(self._layer.digest) as file:
            for start in range(0, self.total, part) or [0]:
                sending = Sending(file, start, min(part, self.total - start), self._settings.stall)
                location = await self._send(location, sending)
                sums.append(sending.md5.digest())
        etag = f"{hashlib.md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{len(sums)}"
        url = location.update_query(digest=str(self._layer.digest), etag=etag)
        async with self._remote.request("PUT", url, headers={"Content-Length": "0"}) as response:
            await check(response)

    async def _begin(self) -> URL | None:
        """Where the first part goes; None when the registry could take the blob from a neighbour."""
        url = self._remote.url("blobs/uploads/")
        if neighbour := self._neighbour():
            url = url.with_query({"mount": str(self._layer.digest), "from": neighbour})
        async with self._remote.request("POST", url, headers={"Content-Length": "0"}) as response:
            await check(response)
            return None if response.status == 201 else self._following(response, url)

    def _neighbour(self) -> str:
        """The repository of the same registry that the layer came from."""
        with suppress(InvalidName):
            name = ModelName.parse(self._layer.source)
            if name.host.lower() == self._remote.host:
                return f"{name.namespace}/{name.model}"
        return ""

    def _following(self, response: aiohttp.ClientResponse, url: URL) -> URL:
        """Where the next request of the session goes: within the registry, since it carries our credentials."""
        text = response.headers.get("Docker-Upload-Location") or response.headers.get("Location") or ""
        if not text:
            raise UpstreamError("the registry does not say where to upload", status=500)
        following = parse_url(text, url, "the registry's place to upload")
        if following.authority == self._remote.origin.authority:  # behind a proxy registries think that they are http
            following = following.with_scheme(self._remote.origin.scheme)
        if not self._remote.owns(following):
            raise UpstreamError(f'the registry wants uploads at another host, "{following.authority}"', status=500)
        return following

    async def _send(self, location: URL, sending: Sending) -> URL:
        end = sending.start + sending.size - 1
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{sending.start}-{end}",
            "Content-Length": str(sending.size),
            "X-Redirect-Uploads": "1",
        }
        outside: URL | None = None
        async with (
            sending.watched(self._count),
            self._remote.request("PATCH", location, headers=headers, body=sending.body) as response,
        ):
            if response.status in REDIRECTS:
                outside = redirect_target(response, location)
            else:
                await check(response)
            following = self._following(response, location)
        if outside is not None:
            place = outside
            await self._again(lambda: self._put(place, sending))
        return following

    async def _put(self, place: URL, sending: Sending) -> None:
        headers = {"Content-Length": str(sending.size)}
        async with (
            sending.watched(self._count),
            self._remote.request("PUT", place, headers=headers, body=sending.body) as response,
        ):
            await check(response)

    def _count(self, position: int) -> None:
        self.completed = position
