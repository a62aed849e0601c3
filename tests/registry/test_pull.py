"""Pull from a registry like Ollama's: events, bytes, credentials, and what never happens."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ollama_registry import TOKEN, digest_of

from modelfiles.names import ModelName
from server.errors import Forbidden
from server.store import fsck
from server.store.registry import keys

SYSTEM = b"You are terse."


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


async def test_the_events_are_ollamas_and_the_manifest_is_kept_byte_for_byte(
    ollama: Any, puller: Any, nano: bytes
) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano, system=SYSTEM)
    pull = puller(address, "localhost")
    events = await pull(f"{address}/library/nano")
    labels = [event["status"] for event in events]
    model, config = digest_of(nano), json.loads(registry.manifests["library/nano:latest"])["config"]["digest"]
    order = ["pulling manifest"]
    order += [f"pulling {digest[7:19]}" for digest in (model, digest_of(SYSTEM), config)]
    order += ["verifying sha256 digest", "writing manifest", "success"]
    assert list(dict.fromkeys(labels)) == order
    first, *_, last = [event for event in events if event.get("digest") == model]
    assert list(first.items()) == [("status", order[1]), ("digest", model), ("total", len(nano))]
    assert last["completed"] == len(nano)
    library = pull.library
    entry = library.manifests.find(ModelName.parse(f"{address}/library/nano"))
    assert entry.path.read_bytes() == registry.manifests["library/nano:latest"]
    assert library.resolve(f"{address}/library/nano").system == "You are terse."
    assert fsck.check(library.root).problems == ()
    assert not [name for name in files(library.root) if "partial" in name]


async def test_the_token_stays_with_the_registry(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    await puller(address, "localhost")(f"{address}/library/nano")
    assert [r.headers["Authorization"] for r in registry.seen if "/blobs/" in r.path] == [f"Bearer {TOKEN}"] * 2
    assert registry.cdn_seen
    for request in registry.cdn_seen:
        assert not {"Authorization", "Cookie", "Referer", "Proxy-Authorization"} & request.headers.keys()
        assert TOKEN not in str(request.raw_headers)
    agent = registry.seen[0].headers["User-Agent"]
    assert agent.startswith("ollama/")
    assert registry.seen[0].headers["Accept-Encoding"] == "identity"


async def test_what_is_there_is_not_fetched_again(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    pull = puller(address, "localhost")
    await pull(f"{address}/library/nano")
    registry.add("library/nano:latest", nano, system=SYSTEM)
    before = registry.sent[digest_of(nano)]
    events = await pull(f"{address}/library/nano")
    mine = [event for event in events if event.get("digest") == digest_of(nano)]
    assert [(event["total"], event["completed"]) for event in mine] == [(len(nano), len(nano))]
    assert registry.sent[digest_of(nano)] == before == len(nano)


async def test_layers_that_nobody_needs_any_more_go(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano, system=SYSTEM)
    pull = puller(address, "localhost")
    await pull(f"{address}/library/nano")
    registry.add("library/nano:latest", nano, system=b"other")
    labels = [event["status"] for event in await pull(f"{address}/library/nano")]
    assert labels[-3:] == ["writing manifest", "removing unused layers", "success"]
    names = files(pull.library.root)
    assert f"blobs/sha256-{digest_of(SYSTEM)[7:]}" not in names
    assert f"blobs/sha256-{digest_of(b'other')[7:]}" in names


@pytest.mark.parametrize("status", [200, 301, 302, 303, 307, 308])
async def test_blobs_may_be_anywhere(status: int, ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    registry.status, registry.direct = status, status == 200
    events = await puller(address, "localhost")(f"{address}/library/nano")
    assert events[-1] == {"status": "success"}


async def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "id_ed25519"
    first = keys.load(path)
    assert keys.load(path).public == first.public
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("id_ed25519.pub").read_text().split() == ["ssh-ed25519", first.public]


async def test_who_is_not_known_is_denied(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    registry.public = set()
    events = await puller(address, "localhost")(f"{address}/library/nano")
    assert events[-1] == {"error": "pull model manifest: unauthorized: access denied"}


async def test_a_realm_elsewhere_gets_nothing(ollama: Any, puller: Any, nano: bytes, serve: Any) -> None:
    registry, address = ollama
    other, theirs = type(registry)(public=set()), []
    elsewhere = await serve(other.app())
    for realm in (f"http://{elsewhere}/token", f"https://{address}/token", f"http://x@{address}/token", "token", ""):
        registry.realm = realm or "''"
        events = await puller(address, "127.0.0.1", "localhost")(f"{address}/library/nano")
        theirs.append(events[-1]["error"])
    assert theirs[0] == f'pull model manifest: realm host "{elsewhere}" does not match original host "{address}"'
    assert "scheme" in theirs[1]
    assert other.seen == []


async def test_what_is_not_listed_is_not_asked(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    for listed in ((), ("*",), ("localhost",), ("127.0.0.1:1",)):
        pull = puller(*listed)
        if "*" in listed:
            events = await pull(f"{address}/library/nano")
            assert "inside this network" in events[-1]["error"]
        else:
            with pytest.raises(Forbidden, match="LLAMADA_REGISTRIES"):
                await pull(f"{address}/library/nano")
    assert registry.seen == []


async def test_a_redirect_into_the_network_is_refused(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    events = await puller(address)(f"{address}/library/nano")
    assert "localhost" in events[-1]["error"]
    assert "LLAMADA_REGISTRIES" in events[-1]["error"]
    assert registry.cdn_seen == []


@pytest.mark.parametrize(
    "location", ["http://[::1", "http://h:99999/", "http://h:x/", "ftp://h/", "//", "\u00fc ü", "?" * 20000]
)
async def test_redirects_to_nowhere(location: str, ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    registry.location = location
    events = await puller(address, "localhost", retries=2)(f"{address}/library/nano")
    assert isinstance(events[-1].get("error"), str)
    assert registry.cdn_seen == []


async def test_not_there(ollama: Any, puller: Any) -> None:
    _, address = ollama
    events = await puller(address)(f"{address}/library/nobody")
    assert events == [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]


async def test_nobody_listens(puller: Any) -> None:
    events = await puller("127.0.0.1:1")("127.0.0.1:1/library/x")
    error = (
        'pull model manifest: Get "http://127.0.0.1:1/v2/library/x/manifests/latest": dial tcp 127.0.0.1:1: connect: '
    )
    assert events[-1] == {"error": error + "connection refused"}


@pytest.mark.parametrize("wrong", ["bytes", "short", "long"])
async def test_wrong_bytes_never_get_the_name(wrong: str, ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    changed = {"bytes": b"x" + nano[1:], "short": nano[:-1], "long": nano + b"x"}[wrong]
    registry.blobs[digest_of(nano)] = changed
    pull = puller(address, "localhost", retries=2)
    final, seen = pull.library.root / "blobs" / f"sha256-{digest_of(nano)[7:]}", []

    async def look() -> None:
        while True:
            seen.append(final.exists())
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    events = await pull(f"{address}/library/nano")
    looking.cancel()
    assert not any(seen)
    error = events[-1]["error"]
    if wrong == "bytes":
        want = f"want {digest_of(nano)}, got {digest_of(changed)}"
        assert error == f"digest mismatch, file must be downloaded again: {want}"
        assert files(pull.library.root) == set()
    assert not (pull.library.root / "manifests").exists()


async def test_what_is_no_model_is_not_installed(ollama: Any, puller: Any) -> None:
    registry, address = ollama
    registry.add("library/junk:latest", b"GGUF" + os.urandom(5000))
    pull = puller(address, "localhost")
    events = await pull(f"{address}/library/junk")
    assert "cannot be used" in events[-1]["error"]
    assert files(pull.library.root) - {"blobs/x"} == {
        name for name in files(pull.library.root) if name.startswith("blobs/sha256-")
    }
    assert not (pull.library.root / "manifests").exists()


BAD = {
    "not json": b"<html>",
    "a list": b"[]",
    "no config": json.dumps({"layers": []}).encode(),
    "digest": json.dumps({"config": {"digest": "sha256:../../../etc/x", "size": 1}, "layers": []}).encode(),
    "many": json.dumps({"config": {}, "layers": [{}] * 5000}).encode(),
    "negative": json.dumps({"config": {"digest": digest_of(b""), "size": -1}, "layers": []}).encode(),
    "big": b" " * (5 * 1024 * 1024),
}


@pytest.mark.parametrize("kind", BAD)
async def test_bad_manifests(kind: str, ollama: Any, puller: Any, tmp_path: Path) -> None:
    registry, address = ollama
    registry.manifests["library/bad:latest"] = BAD[kind]
    before = files(tmp_path)
    pull = puller(address, "localhost")
    events = await pull(f"{address}/library/bad")
    assert events[-1]["error"].startswith("pull model manifest: ")
    assert files(tmp_path) == before


async def test_many_pulls_are_one_transfer(ollama: Any, puller: Any, nano: bytes) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    registry.add("library/other:latest", nano, system=SYSTEM)
    pull = puller(address, "localhost")
    names = ["nano", "other"] * 10
    every = await asyncio.gather(*(pull(f"{address}/library/{name}") for name in names))
    assert all(events[-1] == {"status": "success"} for events in every)
    assert registry.sent[digest_of(nano)] == len(nano)


async def test_a_mirror_is_asked_first_and_the_registry_when_it_fails(
    ollama: Any, puller: Any, nano: bytes, serve: Any
) -> None:
    registry, address = ollama
    mirror = type(registry)(direct=True)
    mirror.add("library/nano:latest", nano)
    place = await serve(mirror.app())
    registry.add("library/nano:latest", nano)
    registry.add("library/two:latest", nano)
    pull = puller(address, "localhost", mirrors={address: f"http://{place}"})
    assert (await pull(f"{address}/library/nano"))[-1] == {"status": "success"}
    assert (registry.seen, bool(mirror.seen)) == ([], True)
    assert (await pull(f"{address}/library/two"))[-1] == {"status": "success"}
    assert registry.seen


async def test_a_proxy_is_used_but_for_what_it_is_not_for(ollama: Any, puller: Any, nano: bytes, serve: Any) -> None:
    registry, address = ollama
    registry.add("library/nano:latest", nano)
    asked = []

    async def proxy(request: Any) -> Any:
        asked.append(str(request.url))
        from aiohttp import web

        return web.Response(status=404)

    from aiohttp import web

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy)
    through = {"proxies": {"http": f"http://{await serve(app)}"}}
    events = await puller("far.example", **through)("far.example/library/nano")
    assert events[-1] == {"error": "pull model manifest: file does not exist"}
    assert asked == ["http://far.example/v2/library/nano/manifests/latest"]
    events = await puller(address, "localhost", **through, no_proxy=("127.0.0.1", "localhost"))(
        f"{address}/library/nano"
    )
    assert events[-1] == {"status": "success"}
