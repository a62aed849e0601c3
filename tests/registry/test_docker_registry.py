"""Push to a real OCI registry and pull from it: open, with passwords, with tokens, through a network that breaks."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from docker_registry import PASSWORD, TokenServer, docker_registry, htpasswd_auth, login_file, needs_registry
from fault_proxy import Fault, FaultProxy
from ollama_registry import KIND

from modelfiles.names import ModelName
from server.store import fsck
from server.store.library import Library
from server.store.manifests import Layer

pytestmark = needs_registry
SUCCESS = {"status": "success"}
BIG = 3_000_000


def install(library: Library, name: str, nano: bytes, *more: bytes) -> None:
    """A model with some large licenses."""
    config, _ = library.blobs.add_bytes(b'{"model_format":"gguf","model_family":"llama"}')
    layers = [Layer(f"{KIND}model", library.blobs.add_bytes(nano)[0], len(nano))]
    layers += [Layer(f"{KIND}license", library.blobs.add_bytes(data)[0], len(data)) for data in more]
    library.write(ModelName.parse(name), Layer("application/x", config, 46), tuple(layers))


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[str]:
    async with docker_registry(tmp_path / "registry") as address:
        yield address


async def test_there_and_back(plain: str, puller: Callable[..., Any], nano: bytes, tmp_path: Path) -> None:
    name, big = f"{plain}/me/nano:v1", random.Random(1).randbytes(BIG)
    there = puller(plain, part_size=1_000_000)
    install(there.library, name, nano, big)
    assert (await there.push(name))[-1] == SUCCESS
    again = await there.push(name)
    assert [event for event in again if event.get("completed", 0) != event.get("total", 0)] == []
    back = puller(plain, root=tmp_path / "back", part_size=500_000)
    assert (await back(name))[-1] == SUCCESS
    assert back.library.resolve(name).digest == there.library.resolve(name).digest
    assert fsck.check(back.library.root).problems == ()


async def test_a_layer_of_a_neighbour_is_mounted(plain: str, puller: Callable[..., Any], nano: bytes) -> None:
    base, name = f"{plain}/me/base:latest", f"{plain}/me/other:latest"
    one = puller(plain)
    install(one.library, base, nano)
    await one.push(base)
    manifest = one.library.manifests.read(one.library.manifests.find(ModelName.parse(base)))
    layer = manifest.layers[0]
    one.library.write(
        ModelName.parse(name), manifest.config, (Layer(layer.media_type, layer.digest, layer.size, base),)
    )
    async with FaultProxy(plain).running() as proxy:
        moved = puller(proxy.address)
        spelled = ModelName.parse(name.replace(plain, proxy.address))
        source = base.replace(plain, proxy.address)
        moved.library.write(spelled, manifest.config, (Layer(layer.media_type, layer.digest, layer.size, source),))
        assert (await moved.push(spelled.full()))[-1] == SUCCESS
        assert any("mount=sha256" in request and "from=me/base" in request for request in proxy.requests)
        assert sum("PATCH" in request for request in proxy.requests) == 1  # the config has no `from`


async def test_passwords(puller: Callable[..., Any], nano: bytes, tmp_path: Path) -> None:
    async with docker_registry(tmp_path / "registry", htpasswd_auth(tmp_path / "registry")) as address:
        name = f"{address}/me/nano"
        right = puller(address, logins=login_file(tmp_path / "right.json", address))
        install(right.library, name, nano)
        assert (await right.push(name))[-1] == SUCCESS
        for logins in (None, tmp_path / "none.json", login_file(tmp_path / "wrong.json", address, password="x")):
            wrong = puller(address, logins=logins)
            assert "unauthorized: access denied" in (await wrong(name))[-1]["error"]
            assert "unauthorized: access denied" in (await wrong.push(name))[-1]["error"]
        elsewhere = puller(address, logins=login_file(tmp_path / "elsewhere.json", "127.0.0.1:1"))
        assert "access denied" in (await elsewhere(name))[-1]["error"]
        back = puller(address, logins=login_file(tmp_path / "right.json", address), root=tmp_path / "back")
        assert (await back(name))[-1] == SUCCESS


async def test_tokens(puller: Callable[..., Any], nano: bytes, serve: Any, tmp_path: Path) -> None:
    """The token server is behind the same host as the registry: elsewhere nothing would be sent to it."""
    tokens = TokenServer(tmp_path / "tokens")
    async with FaultProxy("").running() as proxy:
        proxy.routes["/token"] = await serve(tokens.app())
        realm = f"http://{proxy.address}/token"
        async with docker_registry(tmp_path / "registry", tokens.auth(realm)) as address:
            proxy.upstream = address
            name = f"{proxy.address}/me/nano"
            mine = puller(proxy.address, logins=login_file(tmp_path / "logins.json", proxy.address))
            install(mine.library, name, nano)
            assert (await mine.push(name))[-1] == SUCCESS
            anybody = puller(proxy.address, root=tmp_path / "back")
            assert (await anybody(name))[-1] == SUCCESS
            assert "access denied" in (await anybody.push(f"{proxy.address}/me/nano"))[-1].get("error", "access denied")
            install(anybody.library, f"{proxy.address}/me/new", nano, b"more")
            assert "access denied" in (await anybody.push(f"{proxy.address}/me/new"))[-1]["error"]
            password = base64.b64encode(f"ana:{PASSWORD}".encode()).decode()
            assert not [head for head in proxy.heads if password in head and not head.startswith("GET /token")]


async def test_a_token_server_elsewhere_is_not_asked(
    puller: Callable[..., Any], nano: bytes, serve: Any, tmp_path: Path
) -> None:
    tokens = TokenServer(tmp_path / "tokens")
    elsewhere = await serve(tokens.app())
    async with docker_registry(tmp_path / "registry", tokens.auth(f"http://{elsewhere}/token")) as address:
        logins = login_file(tmp_path / "logins.json", address)
        events = await puller(address, "127.0.0.1", logins=logins)(f"{address}/me/nano")
        assert f'realm host "{elsewhere}" does not match original host "{address}"' in events[-1]["error"]
    assert tokens.requests == []


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("cut", 700_000)] * 3 + [Fault("reset", 10_000)] * 3,
        [Fault("status", status=429, headers={"Retry-After": "0"})] * 3 + [Fault("range")] * 2,
        [Fault("late", seconds=0.1)] * 3 + [Fault("stall", 200_000)],
    ],
    ids=["cut", "busy", "slow"],
)
async def test_pulls_through_faults(
    faults: list[Fault], plain: str, puller: Callable[..., Any], nano: bytes, tmp_path: Path
) -> None:
    there, big = puller(plain), random.Random(2).randbytes(BIG)
    install(there.library, f"{plain}/me/nano", nano, big)
    await there.push(f"{plain}/me/nano")
    async with FaultProxy(plain, list(faults)).running() as proxy:
        back = puller(proxy.address, root=tmp_path / "back", part_size=800_000, stall=3.0)
        assert (await back(f"{proxy.address}/me/nano"))[-1] == SUCCESS
        assert proxy.faults == []
    assert fsck.check(back.library.root).problems == ()


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("status", status=503, path="/blobs/uploads/")] * 3,
        [Fault("reset", 0, path="/blobs/uploads/")] * 2,
        [Fault("status", status=429, path="/blobs/uploads/", headers={"Retry-After": "0"})] * 4,
    ],
    ids=["unavailable", "reset", "busy"],
)
async def test_pushes_through_faults(
    faults: list[Fault], plain: str, puller: Callable[..., Any], nano: bytes, tmp_path: Path
) -> None:
    async with FaultProxy(plain, list(faults)).running() as proxy:
        name = f"{proxy.address}/me/nano"
        there = puller(proxy.address, part_size=1_000_000)
        install(there.library, name, nano, random.Random(3).randbytes(BIG))
        assert (await there.push(name))[-1] == SUCCESS
        assert proxy.faults == []
        back = puller(proxy.address, root=tmp_path / "back")
        assert (await back(name))[-1] == SUCCESS
    assert back.library.resolve(name).digest == there.library.resolve(name).digest
