"""One worker process kept ready, its imports done, so that the next model need not wait for them.

A spare fits a load only if its environment is the right one (threads' spinning is decided by the size of the
weights before the process starts). Otherwise a fresh process is started and the next spare is of that kind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from errno import EMFILE, ENFILE

from server.errors import RunnerError
from server.runners.process import SPIN_THRESHOLD, WORKER_MODULE, WorkerProcess, worker_environment

logger = logging.getLogger(__name__)

REFILL_DELAY = 2.0
"""Seconds after a load: the first answer of the new model comes before the next spare's imports."""


class Spare:
    """``base``: the allow-listed environment. ``enabled`` False = every worker is started when it is needed."""

    def __init__(
        self,
        base: Mapping[str, str],
        *,
        module: str = WORKER_MODULE,
        enabled: bool = True,
        delay: float = REFILL_DELAY,
    ) -> None:
        self._base = base
        self._module = module
        self._enabled = enabled
        self._delay = delay
        self._environment = worker_environment(base, short_spin=False)
        self._process: WorkerProcess | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """The waiting process, 0 if there is none."""
        return self._process.pid if self._process is not None and self._process.running else 0

    def take(self, weights_size: int) -> WorkerProcess:
        """A process for a model of that size; the caller owns it. RunnerError where none can be started."""
        self._stop_timer()
        environment = worker_environment(self._base, short_spin=weights_size > SPIN_THRESHOLD)
        ready, self._process = self._process, None
        if ready is not None and ready.running and environment == self._environment:
            return ready
        if ready is not None:
            ready.kill()
        self._environment = environment
        try:
            return self._spawn()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            hint = "; raise the limit of open files (ulimit -n)" if error.errno in (EMFILE, ENFILE) else ""
            raise RunnerError(f"no process could be started for the model: {reason}{hint}") from error

    def refill(self, *, soon: bool = False) -> None:
        """Have a spare of the kind last taken, ``soon`` or after the usual delay."""
        if self._enabled and not self.pid and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(0.0 if soon else self._delay, self._fill)

    async def close(self) -> None:
        self._enabled = False
        self._stop_timer()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.shield(process.exited)

    def _fill(self) -> None:
        self._timer = None
        try:
            self._process = self._spawn()
        except OSError as error:  # no memory or no process left: the next load will say so to someone
            logger.warning("no spare worker could be started: %s", error.strerror)

    def _spawn(self) -> WorkerProcess:
        return WorkerProcess.spawn(self._environment, self._module)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
