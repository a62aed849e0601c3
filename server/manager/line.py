"""The requests that wait for one model, first come first served, and the load that they share.

A caller that leaves costs nobody anything; when the last one leaves, the line's task is cancelled.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from server.errors import Busy, ServerError
from server.manager.resident import Residency
from server.types import LoadOptions, ModelSpec

WAITED_TOO_LONG = "queue timeout"
RETRY_AFTER = 30.0


@dataclass(slots=True, eq=False)
class Waiter:
    options: LoadOptions
    keep_alive: float | None
    granted: asyncio.Future[Residency]


class Line:
    """``progress`` is None while nothing is being loaded. ``abandoned``: the last one left and the task was
    cancelled, which may take a moment. ``patience``: seconds a caller waits, loading not counted, 0 = for ever."""

    def __init__(self, key: str, spec: ModelSpec, patience: float) -> None:
        self.key = key
        self.spec = spec
        self.patience = patience
        self.waiters: deque[Waiter] = deque()
        self.task: asyncio.Task[None] | None = None
        self.progress: float | None = None
        self.abandoned = False

    async def join(
        self, options: LoadOptions, keep_alive: float | None, give_back: Callable[[Residency], None]
    ) -> Residency:
        """Wait for one's turn. ``give_back`` is called with what was granted to a caller that has just left."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(options, keep_alive, loop.create_future())
        self.waiters.append(waiter)
        timer: list[asyncio.TimerHandle] = []

        def overdue() -> None:
            if self.progress is None and not waiter.granted.done():
                waiter.granted.set_exception(Busy(WAITED_TOO_LONG, retry_after=RETRY_AFTER))
            timer[:] = [loop.call_later(self.patience, overdue)]

        if self.patience > 0:
            timer.append(loop.call_later(self.patience, overdue))
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
                give_back(waiter.granted.result())
            raise
        finally:
            if timer:
                timer[0].cancel()
            if waiter in self.waiters:
                self.waiters.remove(waiter)
            if not self.waiters and self.task is not None and not self.task.done():
                self.abandoned = True
                self.task.cancel()

    @property
    def head(self) -> Waiter | None:
        """The first that still waits."""
        while self.waiters and self.waiters[0].granted.done():
            self.waiters.popleft()
        return self.waiters[0] if self.waiters else None

    def grant(self, residency: Residency) -> None:
        """Let the first one in. The caller has counted it."""
        self.waiters.popleft().granted.set_result(residency)

    def fail(self, error: ServerError, options: LoadOptions | None = None) -> None:
        """All who asked for these options (None: everybody) get their own copy of ``error``."""
        for waiter in [w for w in self.waiters if options is None or w.options == options]:
            self.waiters.remove(waiter)
            if not waiter.granted.done():
                waiter.granted.set_exception(copy.copy(error))
