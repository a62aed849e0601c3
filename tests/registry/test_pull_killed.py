"""A pulling process is killed at random moments: the store stays sound, and a kill costs at most about one part."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy
from ollama_registry import OllamaRegistry, digest_of

from server.store import fsck
from server.store.digests import Digest
from server.store.library import Library

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("pull_child.py")
PART = 400_000


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.timeout(1200)
async def test_kills(kills: int, serve: Any, nano: bytes, tmp_path: Path) -> None:
    dice, done = random.Random(9), 0
    while done < kills:
        blob = dice.randbytes(4_000_000)
        registry = OllamaRegistry(direct=True)
        registry.add("library/large:latest", nano, license=blob)
        root = tmp_path / f"models-{done}"
        async with FaultProxy(await serve(registry.app()), always=Fault("drip", seconds=0.005)).running() as proxy:
            here = await until_whole(proxy, root, dice, kills - done)
            done += max(here, 1)
            library = Library(root)
            assert library.blobs.read(Digest.parse(digest_of(blob)), 1 << 30) == blob
            assert proxy.sent <= len(blob) + len(nano) + 1000 + here * 2 * PART


async def until_whole(proxy: FaultProxy, root: Path, dice: random.Random, limit: int) -> int:
    """Pull and kill until a pull comes to its end; how many were killed."""
    kills = 0
    while True:
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(CHILD), str(root), f"{proxy.address}/library/large", proxy.address, str(PART),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        before = proxy.sent
        while kills < limit and child.returncode is None and proxy.sent == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the start of Python is not what is to be interrupted
        try:
            await asyncio.wait_for(child.wait(), dice.uniform(0.02, 0.8) if kills < limit else None)
        except TimeoutError:
            child.kill()
            await child.wait()
            kills += 1
            report = await asyncio.to_thread(fsck.check, root)
            assert report.sound, report.problems
        else:
            assert child.returncode == 0
            return kills
