"""Pull: a name becomes an installed model. Blobs first, each verified before it has its name; the manifest last.

``events`` yields Ollama's progress objects in its order. What breaks off leaves whole blobs and parts of one for the
next try, and the model that stood there before as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from modelfiles.names import ModelName
from server.errors import Forbidden, InvalidRequest, ServerError, StoreError
from server.store import manifests
from server.store.digests import Digest
from server.store.library import Library
from server.store.manifests import Layer, Manifest
from server.store.registry.downloads import Downloads
from server.store.registry.places import Place, Places
from server.store.registry.progress import Event, blob_event, watch
from server.store.registry.source import Source
from server.store.sources import GGUF_KINDS, read


class Pull:
    """One pull of ``name``. ``places``: where it may be had, in order."""

    def __init__(self, library: Library, downloads: Downloads, places: Places, name: ModelName) -> None:
        self._library = library
        self._downloads = downloads
        self._places = places
        self._name = name

    async def events(self) -> AsyncGenerator[Event, None]:
        yield {"status": "pulling manifest"}
        place, data, manifest = await self._manifest()
        with self._library.pin(manifest.blobs()):
            for layer in (*manifest.layers, manifest.config):
                async with aclosing(self._blob(place, layer)) as events:
                    async for event in events:
                        yield event
            yield {"status": "verifying sha256 digest"}
            await asyncio.to_thread(self._check, manifest)
            yield {"status": "writing manifest"}
            unused = await asyncio.to_thread(self._library.install, self._name, data, manifest)
        if unused:
            yield {"status": "removing unused layers"}
            await asyncio.to_thread(self._library.forget, unused)
        yield {"status": "success"}

    async def _manifest(self) -> tuple[Place, bytes, Manifest]:
        try:
            place, data = await self._places.manifest()
            return place, data, manifests.parse(data)
        except Forbidden:
            raise
        except ServerError as error:
            raise ServerError(f"pull model manifest: {error.message}") from error

    async def _blob(self, place: Place, layer: Layer) -> AsyncGenerator[Event, None]:
        """One event when the blob is there, else those of its transfer."""
        digest, size = layer.digest, layer.size
        joined = False
        while await asyncio.to_thread(self._library.blobs.size, digest) != size:
            again = joined
            source = Source(place.remote, place.blob(layer), size)
            async with self._downloads.join(digest, source) as (transfer, task, ours):
                joined = not ours

                def look() -> Event:
                    return blob_event("pulling", digest, size, transfer.completed)

                try:
                    async with aclosing(watch(task, look)) as events:
                        async for event in events:
                            yield event
                except ServerError:
                    if ours or again:
                        raise  # another's failure, with credentials of its own, is not ours: one more turn
                    continue
                return
        yield blob_event("pulling", digest, size, size)

    def _check(self, manifest: Manifest) -> None:
        """Every blob is there, and no GGUF among them is one that nobody should open. Blocks on the disk."""
        blobs = self._library.blobs
        for digest, size in manifest.blobs().items():
            if blobs.size(digest) != size:
                raise StoreError(f"blob {digest} was removed meanwhile; pull again")
        for layer in manifest.of_kind(*GGUF_KINDS):
            self._check_gguf(layer.digest)

    def _check_gguf(self, digest: Digest) -> None:
        try:
            read(self._library.blobs, digest)
        except InvalidRequest as error:
            self._library.forget([digest])
            raise StoreError(f"the model's file {str(digest)[:19]} cannot be used: {error.message}") from error
