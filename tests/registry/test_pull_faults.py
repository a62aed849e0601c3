"""Pull through a network that breaks: the right bytes in the end or a clean error, and little is fetched twice."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy
from ollama_registry import OllamaRegistry, digest_of

from server.store import fsck
from server.store.digests import Digest

PART = 200_000


@pytest.fixture
def blob() -> bytes:
    """Two megabytes in eleven parts; a license, for no weights need be that large here."""
    return random.Random(7).randbytes(2_100_000)


@pytest.fixture
async def proxied(serve: Callable[..., Any], nano: bytes, blob: bytes) -> Any:
    """A registry that needs no token and serves blobs itself, behind the proxy."""
    registry = OllamaRegistry(direct=True)
    registry.add("library/large:latest", nano, license=blob)
    async with FaultProxy(await serve(registry.app())).running() as proxy:
        yield proxy


async def pull(puller: Any, proxy: FaultProxy, **settings: Any) -> tuple[str, Any]:
    """The last event's status or error, and the store."""
    given = {"part_size": PART, "streams": 4, "stall": 1.0, **settings}
    one = puller(proxy.address, **given)
    last = (await one(f"{proxy.address}/library/large"))[-1]
    return last.get("error") or last["status"], one.library


def sound(library: Any, blob: bytes) -> bool:
    report = fsck.check(library.root)
    return report.problems == () and library.blobs.read(Digest.parse(digest_of(blob)), 1 << 30) == blob


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("cut", 100_000)] * 3,
        [Fault("cut", at) for at in (0, 1, 16_384, 199_999)],
        [Fault("reset", 50_000)] * 4,
        [Fault("range")] * 3,
        [Fault("status", status=429, headers={"Retry-After": "0"})] * 3,
        [Fault("status", status=status) for status in (500, 502, 503, 504)],
        [Fault("late", seconds=0.2)] * 4,
        [Fault("twice", 30_000)] * 2,
        [Fault("drip", seconds=0.01)] * 4,
        [Fault("stall", 100_000)],
        [Fault("status", status=503, path="/manifests/")] * 2,
    ],
    ids=lambda faults: f"{faults[0].kind}-{len(faults)}",
)
async def test_passing_faults_are_survived(faults: list[Fault], proxied: FaultProxy, puller: Any, blob: bytes) -> None:
    proxied.faults = list(faults)
    said, library = await pull(puller, proxied)
    assert said == "success" or "digest mismatch" in said
    if faults[0].kind != "twice":  # bytes that came twice cannot be seen before the hash
        assert (said, sound(library, blob)) == ("success", True)
    assert proxied.faults == []


async def test_a_network_that_always_breaks_brings_everything_in_the_end(
    proxied: FaultProxy, puller: Any, blob: bytes
) -> None:
    proxied.always = Fault("cut", 60_000)
    said, library = await pull(puller, proxied)
    assert (said, sound(library, blob)) == ("success", True)


async def test_a_source_without_ranges(proxied: FaultProxy, puller: Any, blob: bytes, nano: bytes) -> None:
    proxied.always = Fault("whole")
    said, library = await pull(puller, proxied)
    assert (said, sound(library, blob)) == ("success", True)
    assert proxied.sent < 2 * (len(blob) + len(nano)) + 4_000_000


async def test_a_source_whose_ranges_end_in_the_middle(proxied: FaultProxy, puller: Any, blob: bytes) -> None:
    proxied.faults = [Fault("cut", 150_000)] * 5 + [Fault("whole")] * 50
    said, library = await pull(puller, proxied, streams=1)
    assert (said, sound(library, blob)) == ("success", True)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("range"), "max retries exceeded: the server answered with another range than was asked for"),
        (Fault("status", status=503), "max retries exceeded: 503: fault"),
        (Fault("loop"), "maximum redirects exceeded (10) for directURL"),
        (Fault("status", status=404), "file does not exist"),
        (Fault("status", status=307), "http: no Location header in response"),
        (Fault("cut", 0), "max retries exceeded: "),
        (Fault("stall", 0), "max retries exceeded: "),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
async def test_lasting_faults_end_in_an_error(fault: Fault, text: str, proxied: FaultProxy, puller: Any) -> None:
    proxied.always = fault
    said, library = await pull(puller, proxied, retries=3, stall=0.2)
    assert said.startswith(text)
    assert not (library.root / "manifests").exists()
    assert fsck.check(library.root).sound
    if text.startswith("max retries"):
        ranges = [head.split("Range: bytes=")[1].split("-")[0] for head in proxied.heads if "Range: " in head]
        assert 3 <= ranges.count("0") <= 4


async def test_a_busy_registry_is_given_up_after_a_while(proxied: FaultProxy, puller: Any) -> None:
    proxied.always = Fault("status", status=429, path="/manifests/")
    said, _ = await pull(puller, proxied)
    assert said == "pull model manifest: 429: fault"
    assert len(proxied.requests) == 4


async def test_a_restart_goes_on_where_it_stopped(
    proxied: FaultProxy, puller: Any, blob: bytes, nano: bytes, tmp_path: Path
) -> None:
    """Left at random moments again and again; all in all little more than the blob is sent."""
    dice, leaves = random.Random(3), 0
    proxied.always = Fault("drip", seconds=0.01)
    while True:
        one = puller(proxied.address, part_size=PART, streams=3)
        task = asyncio.create_task(one(f"{proxied.address}/library/large"))
        enough = proxied.sent + dice.randrange(100_000, 700_000)
        while proxied.sent < enough and not task.done():  # noqa: ASYNC110 - the other side of a socket
            await asyncio.sleep(0.005)
        if task.done():
            break
        leaves += 1
        task.cancel()
        await asyncio.wait([task])
        await one.registry.close()
    assert task.result()[-1] == {"status": "success"}
    assert leaves >= 2
    assert sound(one.library, blob)
    in_flight = 3 * 2 * 16_384 + 3 * (1 << 17)  # what was on the wire when a stream was left
    assert proxied.sent <= len(blob) + len(nano) + 1000 + leaves * in_flight


async def test_the_last_one_who_leaves_ends_the_transfer(proxied: FaultProxy, puller: Any, blob: bytes) -> None:
    proxied.always = Fault("drip", seconds=0.02)
    one = puller(proxied.address, part_size=PART, streams=2)
    name = f"{proxied.address}/library/large"
    first, second = (asyncio.create_task(one(name)) for _ in range(2))
    await asyncio.sleep(0.3)
    first.cancel()
    await asyncio.wait([first])
    assert not second.done()
    second.cancel()
    await asyncio.wait([second])
    before = len(proxied.requests)
    await asyncio.sleep(0.2)
    assert len(proxied.requests) == before
    proxied.always = None
    assert (await one(name))[-1] == {"status": "success"}
    assert sound(one.library, blob)


async def test_a_full_disk_is_said_at_once_and_what_is_there_stays(
    proxied: FaultProxy, puller: Any, blob: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = os.pwrite, [1_000_000]

    def pwrite(file: int, data: Any, offset: int) -> int:
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr("server.store.registry.partial.os.pwrite", pwrite)
        said, library = await pull(puller, proxied)
    assert said == "downloading a blob: no space left on device; free some space and try again"
    assert [path for path in library.blobs.folder.iterdir() if "-partial" in path.name]
    sent = proxied.sent
    said, library = await pull(puller, proxied)
    assert (said, sound(library, blob)) == ("success", True)
    assert proxied.sent - sent < len(blob)


async def test_no_room_is_seen_before_the_first_byte(
    proxied: FaultProxy, puller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.store.registry.partial.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    said, _ = await pull(puller, proxied)
    assert "no space left on device" in said
    assert not any("/blobs/" in request for request in proxied.requests)


async def test_an_unfinished_download_of_ollama_is_continued(
    proxied: FaultProxy, puller: Any, blob: bytes, nano: bytes
) -> None:
    one = puller(proxied.address, streams=2)
    folder, hexes = one.library.blobs.folder, digest_of(blob)[7:]
    folder.mkdir(parents=True)
    half = len(blob) // 2
    (folder / f"sha256-{hexes}-partial").write_bytes(blob[:half] + bytes(1000) + blob[half + 1000 :])
    notes = [{"N": 0, "Offset": 0, "Size": half, "Completed": half}]
    notes += [{"N": 1, "Offset": half, "Size": len(blob) - half, "Completed": 0}]
    for note in notes:
        (folder / f"sha256-{hexes}-partial-{note['N']}").write_text(json.dumps(note))
    assert (await one(f"{proxied.address}/library/large"))[-1] == {"status": "success"}
    assert sound(one.library, blob)
    assert proxied.sent <= len(blob) - half + len(nano) + 1000


async def test_two_processes_share_a_file(proxied: FaultProxy, puller: Any, blob: bytes) -> None:
    """Two registries on one store stand for two processes: the file's lock lets one of them write."""
    proxied.always = Fault("drip", seconds=0.005)
    both = [puller(proxied.address, part_size=PART) for _ in range(2)]
    every = await asyncio.gather(*(one(f"{proxied.address}/library/large") for one in both))
    assert [events[-1] for events in every] == [{"status": "success"}] * 2
    assert proxied.sent < 1.5 * len(blob)
    assert sound(both[0].library, blob)
