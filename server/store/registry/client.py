"""The store's door to registries: pull and push by name. Built once, closed with the server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from modelfiles.names import ModelName
from server.store.library import Library, parse_name
from server.store.registry.auth import HUGGING_FACE
from server.store.registry.downloads import Downloads
from server.store.registry.places import Places
from server.store.registry.progress import Event
from server.store.registry.pull import Pull
from server.store.registry.push import Push
from server.store.registry.remote import Remote, origin_of
from server.store.registry.settings import Settings
from server.store.registry.transport import Transport


class Registry:
    """No connection is made before somebody pulls or pushes."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self._library = library
        self._transport = Transport(settings)
        self._downloads = Downloads(library, settings)

    def pull(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[Event, None]:
        """Progress objects; errors that need no network (Forbidden, InvalidRequest) are raised at once."""
        places = Places(self._transport, name, insecure=insecure)
        cache = self._transport.settings.hf_cache if name.host.lower() in HUGGING_FACE else None
        return Pull(self._library, self._downloads, places, name, cache).events()

    def push(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[Event, None]:
        """As ``pull``, the other way."""
        origin = origin_of(name.host, insecure=insecure)
        self._transport.hosts.require(origin)
        remote = Remote(self._transport, origin, name, insecure=insecure)
        return Push(self._library, remote, name, self._transport.settings).events()

    async def pull_missing(self, name: str) -> AsyncGenerator[Event, None]:
        """What ``create`` asks for when its ``from`` is not there: a pull whose end is not the end of the answer."""
        async with aclosing(self.pull(parse_name(name))) as events:
            async for event in events:
                if event["status"] != "success":
                    yield event

    async def close(self) -> None:
        await self._downloads.close()
        await self._transport.close()
