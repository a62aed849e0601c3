"""Pulls one model in a process of its own, to be killed at any moment: ``pull_child.py ROOT NAME REGISTRY PART``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from modelfiles.names import ModelName
from server.store.library import Library
from server.store.registry.client import Registry
from server.store.registry.settings import Settings


async def main(root: str, name: str, address: str, part: str) -> int:
    settings = Settings(registries=(address,), part_size=int(part), streams=1, backoff=0.01)
    registry = Registry(Library(Path(root)), settings)
    last = {}
    async for event in registry.pull(ModelName.parse(name), insecure=True):
        last = event
    await registry.close()
    return 0 if last == {"status": "success"} else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
