"""Pull: a name becomes an installed model. Blobs first, each verified before it has its name; the manifest last.

``events`` yields Ollama's progress objects in its order. What breaks off leaves whole blobs and parts of one for the
next try, and the model that stood there before as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path

from modelfiles.names import ModelName
from server.errors import InvalidRequest, ServerError, StoreError
from server.store import arrivals
from server.store.library import Library
from server.store.manifests import Layer
from server.store.registry.downloads import Downloads
from server.store.registry.places import Offer, Places
from server.store.registry.progress import Event, blob_event, watch
from server.store.registry.source import Source


class Pull:
    """One pull of ``name``. ``places``: where it may be had, in order."""

    def __init__(
        self, library: Library, downloads: Downloads, places: Places, name: ModelName, hf_cache: Path | None = None
    ) -> None:
        self._library = library
        self._downloads = downloads
        self._places = places
        self._name = name
        self._hf_cache = hf_cache

    async def events(self) -> AsyncGenerator[Event, None]:
        yield {"status": "pulling manifest"}
        offer = await self._places.find()
        library = self._library
        with ExitStack() as pins:
            pins.enter_context(library.pin({layer.digest for layer in offer.layers}))
            for layer in offer.layers:
                async with aclosing(self._blob(offer, layer)) as events:
                    async for event in events:
                        yield event
            yield {"status": "verifying sha256 digest"}
            data, manifest = await asyncio.to_thread(offer.finish, library)
            pins.enter_context(library.pin(manifest.blobs()))
            await asyncio.to_thread(arrivals.check, library, manifest)
            yield {"status": "writing manifest"}
            unused = await asyncio.to_thread(library.install, self._name, data, manifest)
        if unused:
            yield {"status": "removing unused layers"}
            await asyncio.to_thread(library.forget, unused)
        yield {"status": "success"}

    async def _blob(self, offer: Offer, layer: Layer) -> AsyncGenerator[Event, None]:
        """One event when the blob is there, else those of its transfer."""
        digest, size = layer.digest, layer.size
        joined = False
        await asyncio.to_thread(self._cached, layer)
        while await asyncio.to_thread(self._library.blobs.size, digest) != size:
            again = joined
            source = Source(offer.remote, offer.blob(layer), size)
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

    def _cached(self, layer: Layer) -> None:
        """Take the blob over from Hugging Face's cache on this machine, where it lies under its digest."""
        blobs, cache = self._library.blobs, self._hf_cache
        if cache is None or blobs.size(layer.digest) == layer.size:
            return
        folder = cache / f"models--{self._name.namespace}--{self._name.model}" / "blobs"
        path = folder / layer.digest.hex
        with suppress(OSError, InvalidRequest, StoreError):  # whatever is wrong with a cache, there is the registry
            if path.stat().st_size == layer.size:
                blobs.add_file(path, expected=layer.digest)
