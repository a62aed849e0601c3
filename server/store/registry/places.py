"""Where a model may be had: the mirrors that the operator named for its registry, then the registry itself.

An ``Offer`` is what a place has under a name: the layers to fetch, and the manifest once they are there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from yarl import URL

from modelfiles.names import ModelName
from server.errors import Forbidden, ServerError
from server.store import manifests
from server.store.library import Library
from server.store.manifests import Layer, Manifest
from server.store.registry import sharded
from server.store.registry.remote import Remote, StatusError, origin_of
from server.store.registry.transport import Transport

logger = logging.getLogger(__name__)


class Offer(Protocol):
    @property
    def remote(self) -> Remote: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...
    def blob(self, layer: Layer) -> URL: ...
    def finish(self, library: Library) -> tuple[bytes, Manifest]:
        """The manifest to install. Blocks on the disk."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """A manifest as the registry has it, stored byte for byte."""

    remote: Remote
    data: bytes
    manifest: Manifest

    @property
    def layers(self) -> tuple[Layer, ...]:
        return (*self.manifest.layers, self.manifest.config)

    def blob(self, layer: Layer) -> URL:
        return self.remote.blob(layer.digest)

    def finish(self, _: Library) -> tuple[bytes, Manifest]:
        return self.data, self.manifest


class Places:
    """For one pull. ``insecure`` is for the registry of the name; a mirror's URL says by itself what it is."""

    def __init__(self, transport: Transport, name: ModelName, *, insecure: bool) -> None:
        self._name = name
        origin = origin_of(name.host, insecure=insecure)
        transport.hosts.require(origin)
        self._remotes = [Remote(transport, origin, name, insecure=insecure)]
        if mirror := transport.settings.mirrors.get(name.host.lower()):
            url = URL(mirror).origin()
            self._remotes.insert(0, Remote(transport, url, name, insecure=url.scheme == "http"))

    async def find(self) -> Offer:
        """Of the first that has it. The error of the registry itself when none has."""
        *mirrors, registry = self._remotes
        for remote in mirrors:
            try:
                return await self._offer(remote)
            except ServerError as error:
                logger.warning("the mirror %s: %s; asking the registry", remote.origin.host, error.message)
        try:
            return await self._offer(registry)
        except Forbidden:
            raise
        except ServerError as error:
            raise ServerError(f"pull model manifest: {error.message}") from error

    async def _offer(self, remote: Remote) -> Offer:
        try:
            data = await remote.manifest(self._name.tag)
        except StatusError as error:
            if error.code == 400 and sharded.SIGN in error.message:
                return await sharded.find(remote, self._name.tag)
            raise
        return Published(remote, data, manifests.parse(data))
