"""A model in memory: who uses it, how long it stays, and what ``/api/ps`` says of it.

``Residency`` is the manager's own, changing record; ``Resident`` is what others get to see. When two requests may
share one worker is decided here, by ``serves``. Stay and expiry are counted on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from server.manager.placement import Held, Placed
from server.runners.base import Runner
from server.types import LoadOptions, MemoryUse, ModelSpec, RunnerStats

State = Literal["loading", "ready", "busy", "draining"]
FOREVER = timedelta(microseconds=2**63 // 1000)
AUTO = LoadOptions()
GROWING = frozenset({"num_ctx", "num_parallel"})
"""Options of which a worker may have more than a request asks for."""


@dataclass(frozen=True, slots=True)
class Resident:
    """``expires_at`` is wall-clock time: centuries away = stays, past = is about to leave. ``progress`` 0…1 while
    loading. ``running`` and ``queued`` count requests, ``slots`` how many run side by side."""

    spec: ModelSpec
    state: State
    size: int
    size_vram: int
    expires_at: datetime
    context_length: int
    progress: float = 1.0
    slots: int = 0
    running: int = 0
    queued: int = 0
    tokens_per_second: float = 0.0
    stats: RunnerStats = field(default_factory=RunnerStats)
    device: str = ""
    sandbox: str = ""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def digest(self) -> str:
        return self.spec.digest


def key_of(spec: ModelSpec) -> str:
    """What a worker belongs to: the weights and all that is loaded beside them. Names that share these share it."""
    parts = (
        spec.weights_digest or str(spec.weights),
        *map(str, spec.parts),
        "|",
        *map(str, spec.adapters),
        "|",
        *map(str, spec.projectors),
        "|",
        str(spec.draft or ""),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def files_of(spec: ModelSpec) -> set[Path]:
    draft = {spec.draft} if spec.draft is not None else set()
    return {spec.weights, *spec.parts, *spec.adapters, *spec.projectors, *draft}


class Residency:
    """``leases`` requests hold it. ``claimed_by``: a line of requests that waits for it to leave; until then nobody
    new comes in. ``stopping``: it leaves after its last request. ``closing``: it is on its way out."""

    def __init__(
        self, key: str, spec: ModelSpec, asked: LoadOptions, placed: Placed, runner: Runner, keep_alive: float
    ) -> None:
        self.key = key
        self.spec = spec
        self.asked = asked
        self.placed = placed
        self.runner = runner
        self.keep_alive = keep_alive
        self.leases = 0
        self.claimed_by: object | None = None
        self.closing = False
        self.stopping = False
        self.timer: asyncio.TimerHandle | None = None
        self.rest()

    def rest(self) -> None:
        """From now on nobody uses it. Its age by the one clock, its date by the other."""
        self.idle_since, self.idle_at = time.monotonic(), datetime.now(UTC)

    @property
    def open(self) -> bool:
        return self.claimed_by is None and not self.closing and self.runner.alive

    @property
    def use(self) -> MemoryUse:
        """As the worker measured it; the estimate's devices where it measured none."""
        measured = self.runner.loaded.memory
        return measured if measured.total else self.placed.use

    def serves(self, wanted: LoadOptions, window: int) -> bool:
        """May a request with these options, which mean ``window``, run here?

        What the request leaves open, and a larger window or more sequences than it needs, are fine. A window
        that we chose stays right for everybody who lets us choose, even if it had to be lowered.
        """
        if wanted == self.asked:  # whatever came of it, loading again would bring no more
            return True
        for name in [f.name for f in fields(LoadOptions)]:
            value, auto = getattr(wanted, name), getattr(AUTO, name)
            if name in GROWING or (value == auto and name in OPEN_BY_DEFAULT):
                continue
            if value != getattr(self.asked, name):
                return False
        if wanted.num_parallel > self.runner.loaded.num_parallel:
            return False
        return (not wanted.num_ctx and not self.asked.num_ctx) or self.runner.loaded.num_ctx >= window

    def held(self, committed: int) -> Held:
        """For placement; ``committed`` bytes of it are already missing from the machine's available memory."""
        use = self.use
        stay = float("inf") if self.keep_alive < 0 else self.keep_alive
        promised = max(use.total - use.gpu - committed, 0)
        return Held(self.key, use, self.placed.devices, self.leases == 0, stay, promised, self.idle_since)

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def expires_at(self) -> datetime:
        now = datetime.now(UTC)
        if self.claimed_by is not None or self.closing or self.stopping:
            return now - timedelta(seconds=1)
        since = now if self.leases else self.idle_at
        return since + (FOREVER if self.keep_alive < 0 else timedelta(seconds=self.keep_alive))

    def view(self, queued: int) -> Resident:
        loaded, stats, use = self.runner.loaded, self.runner.stats, self.use
        draining = self.claimed_by is not None or self.closing or self.stopping
        return Resident(
            self.spec,
            "draining" if draining else "busy" if self.leases else "ready",
            use.total,
            use.gpu,
            self.expires_at(),
            loaded.num_ctx,
            slots=loaded.num_parallel,
            running=min(self.leases, loaded.num_parallel),
            queued=max(self.leases - loaded.num_parallel, 0) + queued,
            tokens_per_second=stats.tokens_per_second,
            stats=stats,
            device=loaded.device,
            sandbox=loaded.sandbox,
        )


OPEN_BY_DEFAULT = frozenset(
    {"num_gpu", "main_gpu", "tensor_split", "use_mmap", "num_thread", "flash_attention", "draft_num_predict"}
)
"""Options whose default leaves the choice open: a request that does not name them takes what is there."""
