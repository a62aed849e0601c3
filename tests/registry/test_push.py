"""Push to a registry like Ollama's, and back again."""

from __future__ import annotations

from typing import Any

import pytest
from ollama_registry import KIND, TOKEN, digest_of

from modelfiles.names import ModelName
from server.store.library import Library
from server.store.manifests import Layer


def install(library: Library, name: str, nano: bytes, source: str = "") -> None:
    config, _ = library.blobs.add_bytes(b'{"model_format":"gguf","model_family":"llama"}')
    weights, _ = library.blobs.add_bytes(nano)
    layer = Layer(f"{KIND}model", weights, len(nano), source)
    library.write(ModelName.parse(name), Layer("c", config, 46), (layer,))


@pytest.mark.parametrize("direct", [False, True])
async def test_there_and_back(direct: bool, ollama: Any, puller: Any, nano: bytes, tmp_path: Any) -> None:
    registry, address = ollama
    registry.direct = direct
    name = f"{address}/me/nano:v1"
    there = puller(address, "localhost", part_size=len(nano) // 3)
    install(there.library, name, nano)
    events = await there.push(name)
    labels = list(dict.fromkeys(event["status"] for event in events))
    pushing = f"pushing {digest_of(nano)[7:19]}"
    assert (labels[0], labels[1], labels[-2:]) == ("retrieving manifest", pushing, ["pushing manifest", "success"])
    mine = [event for event in events if event["status"] == pushing]
    assert mine[0] == {"status": pushing, "digest": digest_of(nano), "total": len(nano)}
    assert mine[-1]["completed"] == len(nano)
    assert all("Authorization" not in request.headers for request in registry.cdn_seen)
    assert bool(registry.cdn_seen) is not direct
    back = puller(address, "localhost", root=tmp_path / "other")
    assert (await back(name))[-1] == {"status": "success"}
    assert back.library.resolve(name).digest == there.library.resolve(name).digest


async def test_what_the_registry_has_is_not_sent(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.blobs[digest_of(nano)] = nano
    push = puller(address, "localhost")
    install(push.library, f"{address}/me/nano", nano)
    assert (await push.push(f"{address}/me/nano"))[-1] == {"status": "success"}
    assert len(registry.uploads) == 1  # the config


async def test_not_there(ollama: Any, puller: Any) -> None:
    registry, address = ollama
    events = await puller(address).push(f"{address}/me/nothing")
    assert events[1] == {"status": "couldn't retrieve manifest"}
    assert events[2]["error"].endswith("no such file or directory")
    assert registry.seen == []


async def test_not_ours(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.public = set()
    push = puller(address, "localhost")
    install(push.library, f"{address}/them/nano", nano)
    assert "access denied" in (await push.push(f"{address}/them/nano"))[-1]["error"]
    assert not any(TOKEN in str(request.headers) for request in registry.seen)
    assert registry.uploads == {}
