"""Registries on sockets of this machine, and a store beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from ollama_registry import OllamaRegistry

from modelfiles.names import ModelName
from server.errors import ServerError
from server.store.library import Library
from server.store.registry import keys
from server.store.registry.client import Registry
from server.store.registry.settings import Settings

GOLDEN = Path(__file__).parents[1] / "golden" / "models"
Event = dict[str, Any]


@pytest.fixture(scope="module")
def nano() -> bytes:
    return (GOLDEN / "nano.gguf").read_bytes()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """``await serve(app)`` → its address, ``127.0.0.1:port``."""
    servers: list[TestServer] = []

    async def start(app: web.Application) -> str:
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return f"127.0.0.1:{server.port}"

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Quick to try again, and with nobody's logins."""
    return Settings(key=tmp_path / "keys" / "id_ed25519", backoff=0.01, stall=5.0)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "models")


class Puller:
    """A store, and pulls into it as a client of the stream would see them."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self.library = library
        self.settings = settings
        self.registry = Registry(library, settings)

    async def __call__(self, name: str, *, insecure: bool = True) -> list[Event]:
        return await self._all(self.registry.pull(ModelName.parse(name), insecure=insecure))

    async def push(self, name: str, *, insecure: bool = True) -> list[Event]:
        return await self._all(self.registry.push(ModelName.parse(name), insecure=insecure))

    async def _all(self, stream: Any) -> list[Event]:
        events: list[Event] = []
        try:
            async with aclosing(stream):
                async for event in stream:
                    events.append(event)
        except ServerError as error:
            events.append({"error": error.message})
        return events


@pytest.fixture
async def puller(library: Library, settings: Settings) -> AsyncIterator[Callable[..., Puller]]:
    """``puller("127.0.0.1:5000", streams=1)``: allowed to ask these registries, other settings by name."""
    made: list[Puller] = []

    def make(*registries: str, root: Path | None = None, **given: Any) -> Puller:
        store = Library(root) if root else library
        made.append(Puller(store, replace(settings, registries=registries, **given)))
        return made[-1]

    yield make
    for one in made:
        await one.registry.close()


@pytest.fixture
async def ollama(serve: Callable[..., Any], settings: Settings) -> tuple[OllamaRegistry, str]:
    """An emulated registry.ollama.ai that knows our key, and its address; its CDN has another host name."""
    assert settings.key is not None
    registry = OllamaRegistry(public={keys.load(settings.key).public})
    address = await serve(registry.app())
    registry.cdn = f"http://localhost:{(await serve(registry.cdn_app())).rpartition(':')[2]}"
    return registry, address
