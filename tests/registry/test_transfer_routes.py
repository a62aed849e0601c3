"""`/api/pull`, `/api/push` and the pull in `/api/create`, over HTTP: statuses, streams, a client that leaves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy
from ollama_registry import OllamaRegistry

from server.app import build_app
from server.config import Config


@pytest.fixture
async def proxied(serve: Any, nano: bytes) -> Any:
    registry = OllamaRegistry(direct=True)
    registry.add("library/nano:latest", nano, license=bytes(1_000_000))
    async with FaultProxy(await serve(registry.app())).running() as proxy:
        yield proxy


@pytest.fixture
async def client(aiohttp_client: Any, proxied: FaultProxy, tmp_path: Path) -> Any:
    given = {"models": tmp_path / "models", "data_dir": tmp_path / "data", "key": tmp_path / "key", "guide": False}
    config = Config.load({"LLAMADA_REGISTRIES": proxied.address}, given)
    return await aiohttp_client(build_app(config), server_kwargs={"handler_cancellation": True})


async def ask(client: Any, path: str, **body: Any) -> tuple[int, list[Any]]:
    async with client.post(path, json=body) as answer:
        return answer.status, [json.loads(line) for line in (await answer.text()).splitlines()]


async def test_streamed_and_whole(client: Any, proxied: FaultProxy) -> None:
    name = f"{proxied.address}/library/nano"
    status, lines = await ask(client, "/api/pull", model=name, insecure=True)
    assert (status, lines[0], lines[-1]) == (200, {"status": "pulling manifest"}, {"status": "success"})
    assert await ask(client, "/api/pull", model=name, insecure=True, stream=False) == (200, [{"status": "success"}])
    assert await ask(client, "/api/push", model=name, insecure=True, stream=False) == (200, [{"status": "success"}])
    assert (await ask(client, "/api/show", model=name))[0] == 200
    status, lines = await ask(client, "/api/pull", model=f"{proxied.address}/a/b", insecure=True, stream=False)
    assert (status, lines) == (500, [{"error": "pull model manifest: file does not exist"}])
    status, lines = await ask(client, "/api/pull", model=f"{proxied.address}/a/b", insecure=True)
    assert (status, lines[-1]) == (200, {"error": "pull model manifest: file does not exist"})


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/pull", {}, 400, "invalid model name"),
        ("/api/push", {}, 400, "model is required"),
        ("/api/pull", {"model": "a b"}, 400, "invalid model name"),
        ("/api/pull", {"model": "host:1:2/a/b"}, 400, "invalid model name"),
        ("/api/pull", {"model": "host:x/a/b"}, 400, "invalid model name"),
        ("/api/pull", {"model": "127.0.0.1:1/a/b", "insecure": True}, 403, "LLAMADA_REGISTRIES"),
        ("/api/push", {"model": "127.0.0.1:1/a/b", "insecure": True}, 403, "LLAMADA_REGISTRIES"),
        ("/api/create", {"model": "x", "from": "127.0.0.1:1/a/b"}, 403, "LLAMADA_REGISTRIES"),
    ],
)
async def test_refused_at_the_door(path: str, body: Any, status: int, text: str, client: Any) -> None:
    found, lines = await ask(client, path, **body)
    assert found == status
    assert text in lines[0]["error"]


async def test_a_client_that_leaves_ends_the_transfer(client: Any, proxied: FaultProxy) -> None:
    proxied.always = Fault("drip", seconds=0.05)
    body = {"model": f"{proxied.address}/library/nano", "insecure": True}
    answer = await client.post("/api/pull", json=body)
    assert await answer.content.readline()
    while proxied.sent == 0:  # noqa: ASYNC110 - the other side of a socket
        await asyncio.sleep(0.01)
    answer.close()
    while any("Transfer.run" in repr(task) for task in asyncio.all_tasks()):  # noqa: ASYNC110 - or the time limit
        await asyncio.sleep(0.01)
    proxied.always = None
    assert (await ask(client, "/api/pull", **body))[1][-1] == {"status": "success"}
