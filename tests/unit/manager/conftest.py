"""Models that are JSON files for the fake worker, on a machine made of numbers."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from server.hardware.devices import Machine
from server.hardware.memory import Layer, ModelShape
from server.manager.manager import ModelManager
from server.manager.policy import Policy
from server.runners.base import Runner
from server.types import Generation, ModelSpec, TextPrompt

TESTS = Path(__file__).resolve().parents[2]
MIB = 2**20


class FakeDetector:
    """A machine with ``memory`` MiB for models; what the manager promises to others is its own business."""

    def __init__(self, memory: int = 1 << 20) -> None:
        self.machine = Machine(2, 2, memory * MIB, (memory + 256) * MIB)
        self.looks = 0

    def detect(self) -> Machine:
        self.looks += 1
        return self.machine


class House:
    """A manager and models to load into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.detector = FakeDetector()
        self.shapes: dict[Path, ModelShape] = {}
        self.managers: list[ModelManager] = []
        self.policy = Policy(spare=False, max_loaded=100)

    def manager(self, *, memory: int = 1 << 20, **policy: Any) -> ModelManager:
        self.detector = FakeDetector(memory)
        manager = ModelManager(
            replace(self.policy, **policy),
            environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS)},
            data_dir=self.folder / "data",
            detector=self.detector,  # type: ignore[arg-type]
            worker_module="fake_worker",
            read_shape=lambda weights, _: self.shapes[weights],
        )
        self.managers.append(manager)
        return manager

    def model(self, name: str, *, mib: int = 1, trained_ctx: int = 8192, **behaviour: Any) -> ModelSpec:
        """``mib`` of weights; no KV to speak of, so that arithmetic in tests stays simple."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"weights": mib * MIB, "kv": 0, "trained_ctx": trained_ctx} | behaviour))
        self.shapes[path] = ModelShape((Layer(weights=mib * MIB),), trained_ctx=trained_ctx)
        return ModelSpec(
            name=f"{name}:latest",
            full_name=f"registry.ollama.ai/library/{name}:latest",
            digest=f"{abs(hash(name)):064x}",
            weights_digest=(name.encode().hex() * 64)[:64],
            weights=path,
            size=mib * MIB,
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    for manager in made.managers:
        await manager.close()
    assert not psutil.Process().children()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert left == []


async def say(runner: Runner, text: str = "count 2 say t") -> str:
    async with aclosing(runner.generate(Generation(TextPrompt(text, raw=True)))) as chunks:
        return "".join([chunk.content async for chunk in chunks])


async def ask(manager: ModelManager, spec: ModelSpec, text: str = "count 2 say t", **lease: Any) -> str:
    async with manager.lease(spec, **lease) as runner:
        return await say(runner, text)


async def until(condition: Callable[[], object], within: float = 3.0) -> None:
    """Wait for ``condition``, but not for ever."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture(name="say")
def say_fixture() -> Callable[..., Any]:
    return say


@pytest.fixture(name="ask")
def ask_fixture() -> Callable[..., Any]:
    return ask


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until
