"""Fakes at the seams, shared by all tests: a runner that answers from a script and a manager that leases it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from server.errors import ModelNotFound
from server.types import (
    Chunk,
    Embeddings,
    Final,
    Generation,
    Loaded,
    LoadOptions,
    MemoryUse,
    ModelSpec,
    RunnerStats,
)

FINAL = Final("stop", prompt_tokens=7, output_tokens=2, prompt_ns=12_500, decode_ns=40_250, context=(1, 2, 3))
CHUNKS = (Chunk("Hel"), Chunk("lo"), Chunk(final=FINAL))
LOADED = Loaded(4096, 4, 512, MemoryUse(1000, 500, 100), 8192, 4, "none", 1_000_000)


@dataclass
class FakeRunner:
    """Yields ``chunks``; one that is an exception is raised, one that is a float is slept.

    What is only to be rendered gets the last of them, as a real one gives it.
    """

    chunks: Sequence[Chunk | Exception | float] = CHUNKS
    loaded: Loaded = LOADED
    stats: RunnerStats = field(default_factory=RunnerStats)
    alive: bool = True
    pid: int = 1
    generations: list[Generation] = field(default_factory=list)
    embedded: list[dict[str, Any]] = field(default_factory=list)
    closed: int = 0
    hangs: bool = False

    async def generate(self, generation: Generation) -> AsyncGenerator[Chunk, None]:
        self.generations.append(generation)
        ends = [item for item in self.chunks if isinstance(item, Chunk) and item.final] or [Chunk(final=FINAL)]
        try:
            for item in ends if generation.render_only else self.chunks:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, float):
                    await asyncio.sleep(item)
                    continue
                yield item
        finally:
            self.closed += 1

    async def embed(self, inputs: Sequence[str], **wanted: Any) -> Embeddings:
        self.embedded.append({"inputs": tuple(inputs), **wanted})
        return Embeddings(struct.pack("<2f", 0.6, 0.8) * len(inputs), len(inputs), 2, 3 * len(inputs))

    async def tokenize(self, text: str, **wanted: Any) -> tuple[int, ...]:
        return tuple(text.encode())

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode()

    async def ping(self) -> RunnerStats:
        return self.stats

    async def close(self, *, save: bool = True) -> None:
        self.alive = False


@dataclass
class FakeManager:
    runner: FakeRunner = field(default_factory=FakeRunner)
    leases: list[tuple[ModelSpec, LoadOptions, float | None]] = field(default_factory=list)
    unloaded: list[ModelSpec] = field(default_factory=list)
    entries: tuple[Any, ...] = ()

    @asynccontextmanager
    async def lease(self, spec: ModelSpec, load: LoadOptions, keep_alive: float | None) -> AsyncIterator[FakeRunner]:
        self.leases.append((spec, load, keep_alive))
        yield self.runner

    async def unload(self, spec: ModelSpec) -> bool:
        self.unloaded.append(spec)
        return True

    async def ping(self, seconds: float) -> list[str]:
        return ["nano:latest"] if self.runner.hangs else []

    def resident(self) -> tuple[Any, ...]:
        return self.entries


def make_spec(name: str, *capabilities: str, **fields: Any) -> ModelSpec:
    base = ModelSpec(
        f"{name}:latest", f"registry.ollama.ai/library/{name}:latest", "d" * 64, "w" * 64, Path("/nowhere"), 1000
    )
    return replace(base, capabilities=frozenset(capabilities), **fields)


@dataclass
class FakeLibrary:
    specs: dict[str, ModelSpec] = field(default_factory=dict)

    def resolve(self, name: str) -> ModelSpec:
        spec = self.specs.get(name)
        if spec is None:
            raise ModelNotFound(f"model '{name}' not found")
        return spec


@pytest.fixture
def spec() -> Callable[..., ModelSpec]:
    return make_spec


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def manager(runner: FakeRunner) -> FakeManager:
    return FakeManager(runner)


@pytest.fixture
def library() -> FakeLibrary:
    plain = make_spec("nano", "completion", context_length=8192)
    tools = make_spec("nano-tools", "completion", "tools", "thinking", context_length=8192)
    embedder = make_spec("nano-embed", "embedding", context_length=8192)
    fim = make_spec("nano-fim", "completion", "insert", context_length=8192)
    return FakeLibrary({"nano": plain, "nano-tools": tools, "nano-embed": embedder, "nano-fim": fim})
