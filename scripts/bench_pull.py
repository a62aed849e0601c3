"""How fast a pull is beside `curl` and fsync, from the same docker-registry on this machine, verification included.

`.venv/bin/python scripts/bench_pull.py [--size MB] [--rounds N]`: turn and turn about, medians and their ratio. Needs
docker-registry, curl, and four times the size on the disk of `--folder`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "registry")]

from docker_registry import docker_registry  # noqa: E402

from modelfiles.names import ModelName  # noqa: E402
from server.app import _loop_factory  # noqa: E402
from server.store.digests import Digest  # noqa: E402
from server.store.library import Library  # noqa: E402
from server.store.manifests import Layer  # noqa: E402
from server.store.registry.client import Registry  # noqa: E402
from server.store.registry.settings import Settings  # noqa: E402

PIECE = 1 << 24


def fill(library: Library, name: ModelName, size: int) -> Digest:
    """A model whose one layer is ``size`` bytes of noise."""
    dice = random.Random(1)
    with library.blobs.writer() as writer:
        for start in range(0, size, PIECE):
            writer.write(dice.randbytes(min(PIECE, size - start)))
        digest = writer.commit()
    config, _ = library.blobs.add_bytes(b"{}")
    library.write(name, Layer("config", config, 2), (Layer("noise", digest, size),))
    return digest


def curl(url: str, out: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["curl", "-sSf", "-o", str(out), url], check=True)
    with out.open("rb") as file:
        os.fsync(file.fileno())
    took = time.perf_counter() - started
    out.unlink()
    return took


async def pull(root: Path, name: ModelName, settings: Settings) -> float:
    registry = Registry(Library(root), settings)
    started = time.perf_counter()
    async for event in registry.pull(name, insecure=True):
        last = event
    took = time.perf_counter() - started
    await registry.close()
    assert last == {"status": "success"}, last
    shutil.rmtree(root)
    return took


async def measure(folder: Path, size: int, rounds: int) -> dict[str, object]:
    async with docker_registry(folder / "registry") as address:
        name, settings = ModelName.parse(f"{address}/bench/noise"), Settings(registries=(address,))
        source = Library(folder / "source")
        digest = await asyncio.to_thread(fill, source, name, size)
        registry = Registry(source, settings)
        async for _ in registry.push(name, insecure=True):
            pass
        await registry.close()
        shutil.rmtree(source.root)
        url = f"http://{address}/v2/bench/noise/blobs/{digest}"
        found: dict[str, list[float]] = {"curl": [], "pull": []}
        for _ in range(rounds):
            found["curl"].append(await asyncio.to_thread(curl, url, folder / "curled"))
            found["pull"].append(await pull(folder / "pulled", name, settings))
    medians = {which: statistics.median(times) for which, times in found.items()}
    return {
        "size_mb": size // 1_000_000,
        "seconds": found,
        "mb_per_second": {which: round(size / 1e6 / took) for which, took in medians.items()},
        "pull_of_curl_percent": round(100 * medians["curl"] / medians["pull"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="MB of the blob")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: the temporary folder)")
    given = parser.parse_args()
    factory = _loop_factory()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(measure(Path(folder), given.size * 1_000_000, given.rounds))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
