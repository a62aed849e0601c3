"""Where a model may be had: the mirrors that the operator named for its registry, then the registry itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from yarl import URL

from modelfiles.names import ModelName
from server.errors import ServerError
from server.store.manifests import Layer
from server.store.registry.remote import Remote, origin_of
from server.store.registry.transport import Transport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A registry that has the model."""

    remote: Remote

    def blob(self, layer: Layer) -> URL:
        return self.remote.blob(layer.digest)


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

    async def manifest(self) -> tuple[Place, bytes]:
        """From the first that has it. The error of the registry itself when none has."""
        *mirrors, registry = self._remotes
        for remote in mirrors:
            try:
                return Place(remote), await remote.manifest(self._name.tag)
            except ServerError as error:
                logger.warning("the mirror %s: %s; asking the registry", remote.origin.host, error.message)
        return Place(registry), await registry.manifest(self._name.tag)
