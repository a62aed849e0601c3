"""Push: an installed model goes to the registry of its name. Blobs that the registry lacks first, the manifest last."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from modelfiles.names import ModelName
from server.errors import ServerError
from server.store import manifests
from server.store.disk import disk_errors, open_regular
from server.store.library import Library
from server.store.manifests import MANIFEST_TYPE, MAX_BYTES, Entry, Layer, Manifest
from server.store.registry.progress import Event, blob_event, watch
from server.store.registry.remote import Remote
from server.store.registry.settings import Settings
from server.store.registry.upload import Upload

logger = logging.getLogger(__name__)


class Push:
    def __init__(self, library: Library, remote: Remote, name: ModelName, settings: Settings) -> None:
        self._library = library
        self._remote = remote
        self._name = name
        self._settings = settings

    async def events(self) -> AsyncGenerator[Event, None]:
        yield {"status": "retrieving manifest"}
        entry = await asyncio.to_thread(self._library.manifests.find, self._name)
        if entry is None:
            yield {"status": "couldn't retrieve manifest"}
            raise ServerError(f"open {self._library.manifests.path(self._name)}: no such file or directory")
        data, manifest = await asyncio.to_thread(_read, entry)
        with self._library.pin(manifest.blobs()):
            for layer in (*manifest.layers, manifest.config):
                async with aclosing(self._blob(layer)) as events:
                    async for event in events:
                        yield event
            yield {"status": "pushing manifest"}
            await self._remote.put_manifest(self._name.tag, data, _media_type(data))
        digests = ", ".join(str(digest) for digest in manifest.blobs())
        logger.info("pushed %s (sha256:%s), %d bytes: %s", self._name.full(), manifest.digest, manifest.size, digests)
        yield {"status": "success"}

    async def _blob(self, layer: Layer) -> AsyncGenerator[Event, None]:
        digest, size = layer.digest, layer.size
        if await self._remote.has(digest):
            yield blob_event("pushing", digest, size, size)
            return
        upload = Upload(self._remote, self._library.blobs, layer, self._settings)
        task = asyncio.create_task(upload.run())
        try:
            look = lambda: blob_event("pushing", digest, size, upload.completed)  # noqa: E731
            async with aclosing(watch(task, look)) as events:
                async for event in events:
                    yield event
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, ServerError):
                await task


def _read(entry: Entry) -> tuple[bytes, Manifest]:
    with disk_errors("reading the manifest"), open_regular(entry.path) as file:
        data = file.read(MAX_BYTES + 1)
    return data, manifests.parse(data)


def _media_type(data: bytes) -> str:
    said = json.loads(data).get("mediaType")
    return said if isinstance(said, str) and said.isprintable() else MANIFEST_TYPE
