"""The full-sized context is made when the first answers leave time for it.

libllama clears its whole KV buffer at start, which costs half a second to two per GiB on a CPU. So a worker begins
with room for a few sequences and is ready at once; when it is idle, or when more requests come than it has room for,
a thread makes the full context, and the engine moves over between two steps. Where that fails (memory), the small one
stays, and the operator is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from server.types import LoadOptions, MemoryUse
from server.worker.backends.llamacpp.context import Context
from server.worker.backends.llamacpp.model import LoadError, Model

FIRST = 2
"""Sequences of the first context."""

WORTH = 64 * 2**20
"""Smaller KV buffers are made whole at once."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Two sizes of one context; ``first == full`` where there is nothing to grow."""

    options: LoadOptions
    window: int
    full: int
    threads: int

    def open(self, model: Model, sequences: int) -> Context:
        return Context(model, self.options, window=self.window, sequences=sequences, threads=self.threads)


def open_first(model: Model, plan: Plan) -> Context:
    """A context to begin with: the full one if it is small, where memory lies on a device, or where a sequence's
    state cannot be moved to a context of another size."""
    if plan.full <= FIRST or not model.plain:
        return plan.open(model, plan.full)
    first = plan.open(model, FIRST)
    if first.use.gpu or first.use.kv // FIRST * plan.full < WORTH:
        first.close()
        return plan.open(model, plan.full)
    return first


def full_use(first: Context, plan: Plan) -> MemoryUse:
    """Memory of the full context, told before it is there."""
    return replace(first.use, kv=first.use.kv // first.sequences * plan.full)


def grow(model: Model, plan: Plan, done: Callable[[Context | None], None]) -> threading.Thread:
    """Makes the full context in a thread; ``done`` is called there with it, or None if memory does not allow."""

    def work() -> None:
        try:
            done(plan.open(model, plan.full))
        except LoadError:
            done(None)

    thread = threading.Thread(target=work, name="growth", daemon=True)
    thread.start()
    return thread
