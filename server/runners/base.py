"""What the server sees of a loaded model, wherever it runs.

Every request ends with its answer or with exactly one error: ``RunnerError`` (the model lives on) or
``RunnerDied`` (it does not). Leaving ``generate`` early aborts the generation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from server.types import Chunk, Embeddings, Generation, Loaded, RunnerStats


class Runner(Protocol):
    @property
    def loaded(self) -> Loaded: ...

    @property
    def stats(self) -> RunnerStats:
        """The last heartbeat; at most a second old while the model works."""

    @property
    def alive(self) -> bool: ...

    @property
    def pid(self) -> int:
        """The process on this machine that holds the model, 0 if it is elsewhere."""

    def generate(self, generation: Generation) -> AsyncGenerator[Chunk, None]:
        """The answer piece by piece; the last chunk, and only it, has ``final``. Close it (``aclosing``)."""

    async def embed(
        self,
        inputs: Sequence[str],
        *,
        truncate: bool = True,
        dimensions: int = 0,
        normalize: bool = True,
        num_ctx: int = 0,
    ) -> Embeddings: ...

    async def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> tuple[int, ...]: ...

    async def detokenize(self, tokens: Sequence[int]) -> str: ...

    async def ping(self) -> RunnerStats: ...

    async def close(self, *, save: bool = True) -> None:
        """Idempotent. Open requests end with ``RunnerDied``; ``save`` keeps prefixes for the next load."""
