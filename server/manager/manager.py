"""Which models are in memory: loads them on demand, shares them, and lets them go.

Many requests for one model await one load; loads happen one at a time, and waiting for room holds up nobody
whose model is there. A model in use is never evicted. Knows nothing of requests' contents or of protocols.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from server.errors import Busy, DoesNotFit, RunnerDied, ServerError
from server.hardware import cpu
from server.hardware.devices import Machine, ResourceDetector
from server.hardware.memory import ModelShape, shape_of
from server.manager.breaker import Breaker
from server.manager.line import Line
from server.manager.loading import Loader, Shapes
from server.manager.placement import Evict, Placed, place, window_for
from server.manager.policy import Policy
from server.manager.resident import Residency, Resident, files_of, key_of
from server.runners.base import Runner
from server.runners.process import WORKER_MODULE, worker_environment
from server.types import LoadOptions, ModelSpec

logger = logging.getLogger(__name__)

TOO_MANY = "server busy, please try again.  maximum pending requests exceeded"
LEAVING = "the server is shutting down"
NO_OPTIONS = LoadOptions()


class ModelManager:
    """``environment``: what workers may see of ours. ``data_dir``: where prefixes are kept over an unload (None:
    nowhere). ``detector``, ``worker_module`` and ``read_shape`` are handed in by tests.

    Use it as ``async with manager:`` or call ``start`` and ``close``.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        environment: Mapping[str, str],
        data_dir: Path | None = None,
        detector: ResourceDetector | None = None,
        worker_module: str = WORKER_MODULE,
        read_shape: Callable[[Path, tuple[Path, ...]], ModelShape] = shape_of,
    ) -> None:
        self.policy = policy or Policy()
        self._detector = detector or ResourceDetector(worker_environment(environment, short_spin=False), lazy=True)
        self._loader = Loader(self.policy, environment, data_dir, worker_module)
        self._shapes = Shapes(read_shape)
        self._breaker = Breaker()
        self._residents: dict[str, Residency] = {}
        self._lines: dict[str, Line] = {}
        self._gate = asyncio.Lock()
        self._watchers: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._machine: Machine | None = None
        self._draining = False

    # -- lifetime ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Have a spare worker and a first look at the machine under way; nobody waits for them."""
        await self._loader.start()
        self._background(self._look())

    async def _look(self) -> None:
        self._machine = await asyncio.to_thread(self._detector.detect)

    async def __aenter__(self) -> ModelManager:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def drain(self, grace: float) -> None:
        """Take no new requests, let those that are here finish, and close; after ``grace`` seconds whoever is
        left gets an error."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._lines or any(r.leases for r in self._residents.values()):
                    await self._change()
        await self.close()

    async def close(self) -> None:
        """End everything now: loads, generations, workers."""
        self._draining = True
        lines = [line.task for line in self._lines.values() if line.task is not None]
        for line in list(self._lines.values()):
            line.fail(Busy(LEAVING))
        for task in lines:
            task.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        await asyncio.gather(*(self._close(r, "the server stops") for r in list(self._residents.values())))
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._loader.close()

    # -- leases -----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def lease(
        self, spec: ModelSpec, options: LoadOptions = NO_OPTIONS, keep_alive: float | None = None
    ) -> AsyncIterator[Runner]:
        """The runner of ``spec``, loaded if need be, ours to use until the block is left.

        ``keep_alive`` (seconds, negative = for ever, None = as it was) is how long the model stays afterwards.
        Busy: queue full, shutting down, or a model that keeps crashing. DoesNotFit, RunnerError: it cannot load.
        """
        key = key_of(spec)
        residency = self._at_once(key, options, keep_alive) or await self._in_turn(key, spec, options, keep_alive)
        try:
            yield residency.runner
            if residency.runner.alive:
                self._breaker.worked(key)
        finally:
            self._leave(residency)

    def _at_once(self, key: str, options: LoadOptions, keep_alive: float | None) -> Residency | None:
        """The resident model, if it serves these options and nobody is before us."""
        if self._draining:
            raise Busy(LEAVING)
        residency = self._residents.get(key)
        if residency is None or key in self._lines or not residency.open or not self._serves(residency, options):
            return None
        if self.policy.max_queue and residency.leases >= residency.runner.loaded.num_parallel + self.policy.max_queue:
            raise Busy(TOO_MANY, retry_after=1.0)
        return self._enter(residency, keep_alive)

    async def _in_turn(self, key: str, spec: ModelSpec, options: LoadOptions, keep_alive: float | None) -> Residency:
        pause = self._breaker.pause(key, time.monotonic()) if key not in self._lines else 0.0
        if pause:
            raise Busy(f"model {spec.name} keeps crashing, it will be tried again in {pause:.0f} s", retry_after=pause)
        if self.policy.max_queue and sum(len(line.waiters) for line in self._lines.values()) >= self.policy.max_queue:
            raise Busy(TOO_MANY, retry_after=1.0)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key, spec, self.policy.queue_timeout)
            line.task = self._background(self._serve(line))
        return await line.join(options, keep_alive, self._leave)

    def _serves(self, residency: Residency, options: LoadOptions) -> bool:
        shape = self._shapes.known(residency.spec)
        if shape is None or self._machine is None:
            return residency.serves(options, options.num_ctx)
        vision = bool(residency.spec.projectors)
        return residency.serves(options, window_for(options, shape, self._machine, self.policy, vision=vision))

    def _enter(self, residency: Residency, keep_alive: float | None) -> Residency:
        residency.cancel_timer()
        residency.leases += 1
        if keep_alive is not None:
            residency.keep_alive, residency.stopping = keep_alive, False
        return residency

    def _leave(self, residency: Residency) -> None:
        residency.leases -= 1
        if not residency.leases:
            residency.rest()
            self._rest(residency)
        self._notify()

    def _rest(self, residency: Residency) -> None:
        """Nobody uses it: wait for its time, or let it go now."""
        residency.cancel_timer()
        if residency.closing or residency.claimed_by is not None or residency.keep_alive < 0:
            return
        if residency.keep_alive == 0:
            self._background(self._close(residency, "nobody needs it"))
            return
        loop = asyncio.get_running_loop()
        residency.timer = loop.call_later(residency.keep_alive, self._expire, residency)

    def _expire(self, residency: Residency) -> None:
        residency.timer = None
        if not residency.leases and not residency.closing and residency.claimed_by is None:
            self._background(self._close(residency, "its time is over"))

    # -- one line ---------------------------------------------------------------------------------------

    async def _serve(self, line: Line) -> None:
        """Brings the model up and lets the waiting ones in, until nobody waits."""
        try:
            while (head := line.head) is not None:
                residency = self._residents.get(line.key)
                if residency is None:
                    await self._bring_up(line, head.options)
                elif not residency.runner.alive or residency.closing or residency.claimed_by not in (None, line):
                    await self._change()
                elif self._serves(residency, head.options):
                    residency.claimed_by = None
                    line.grant(self._enter(residency, head.keep_alive))
                elif residency.leases:
                    residency.claimed_by = line
                    await self._change()
                else:
                    await self._close(residency, "other options are asked for")
        finally:
            self._release_claims(line)
            if line.abandoned and line.waiters:  # somebody came while the last load was being given up
                line.abandoned = False
                line.task = self._background(self._serve(line))
            else:
                del self._lines[line.key]
                line.fail(ServerError("the model could not be loaded, check the server log for details"))
            self._notify()

    async def _bring_up(self, line: Line, options: LoadOptions) -> None:
        """One try: a load with all the evictions it needs, or a wait for somebody to become idle."""
        try:
            async with self._gate:
                if await self._load_or_claim(line, options):
                    return
        except ServerError as error:
            line.fail(error, options)
            return
        await self._change()

    async def _load_or_claim(self, line: Line, options: LoadOptions) -> bool:
        """False: the model that must leave is in use, or somebody else waits for it already."""
        shape = await self._shapes.of(line.spec)
        while True:
            self._machine = machine = await asyncio.to_thread(self._detector.detect)
            held = [r.held(cpu.committed(r.runner.pid)) for r in self._residents.values()]
            vision = bool(line.spec.projectors)
            verdict = place(machine, held, shape, options, self.policy, vision=vision)
            victim = self._residents.get(verdict.key) if isinstance(verdict, Evict) else None
            self._release_claims(line, but=victim)
            if isinstance(verdict, Placed):
                await self._load(line, shape, options, verdict)
                return True
            if not isinstance(verdict, Evict):
                raise verdict
            if victim is None:  # it left while we looked at the machine
                continue
            if victim.claimed_by not in (None, line):
                return False
            victim.claimed_by = line
            if victim.leases or victim.closing:
                return False
            await self._evict(victim, line)

    async def _load(self, line: Line, shape: ModelShape, asked: LoadOptions, placed: Placed) -> None:
        """Where memory may be the reason of a failure, once more: smaller if the choice was ours, then alone."""
        error = await self._try(line, asked, placed)
        smaller = self._loader.smaller(shape, asked, placed)
        if isinstance(error, DoesNotFit) and smaller is not None:
            placed = smaller
            error = await self._try(line, asked, placed)
        idle = [r for r in self._residents.values() if not r.leases and not r.closing]
        if error is not None and idle:
            for other in idle:
                other.claimed_by = line
                await self._evict(other, line)
            error = await self._try(line, asked, placed)
        if error is not None:
            raise error

    async def _try(self, line: Line, asked: LoadOptions, placed: Placed) -> ServerError | None:
        """The error, if memory may have been the reason; others are raised."""
        try:
            await self._start(line, asked, placed)
        except DoesNotFit as error:
            logger.warning("%s did not fit: %s", line.spec.name, error)
            return error
        except RunnerDied as error:
            self._breaker.crashed(line.key, time.monotonic())
            return error
        return None

    async def _start(self, line: Line, asked: LoadOptions, placed: Placed) -> None:
        dead: list[bool] = []
        made: list[Residency] = []

        def died() -> None:
            dead.append(True)
            for residency in made:
                self._died(residency)

        line.progress = 0.0
        try:
            runner = await self._loader.load(line, placed, died)
        finally:
            line.progress = None
        residency = Residency(line.key, line.spec, asked, placed, runner, self.policy.keep_alive)
        made.append(residency)
        self._residents[line.key] = residency
        if dead:
            self._died(residency)

    # -- leaving ----------------------------------------------------------------------------------------

    async def _evict(self, residency: Residency, line: Line) -> None:
        before = self._machine
        await self._close(residency, f"{line.spec.name} needs its place")
        if residency.use.gpu and before is not None:
            await self._loader.wait_for_gpu(self._detector, before, residency.use.gpu)

    async def _close(self, residency: Residency, why: str) -> None:
        """Goes on even if the caller is cancelled."""
        if residency.closing:
            return
        residency.closing = True
        residency.cancel_timer()
        logger.info("unloading %s (%d MiB): %s", residency.spec.name, residency.use.total >> 20, why)
        await asyncio.shield(self._background(self._shut(residency)))

    async def _shut(self, residency: Residency) -> None:
        try:
            await residency.runner.close()
        finally:
            self._forget(residency)

    def _forget(self, residency: Residency) -> None:
        if self._residents.get(residency.key) is residency:
            del self._residents[residency.key]
        self._notify()

    def _died(self, residency: Residency) -> None:
        """The worker ended by itself: the next request loads anew."""
        logger.error("the worker of %s died with %d requests", residency.spec.name, residency.leases)
        self._breaker.crashed(residency.key, time.monotonic())
        residency.cancel_timer()
        residency.closing = True
        self._forget(residency)
        self._background(residency.runner.close())

    def _release_claims(self, line: Line, but: Residency | None = None) -> None:
        for residency in self._residents.values():
            if residency.claimed_by is line and residency is not but:
                residency.claimed_by = None
                if not residency.leases:
                    self._rest(residency)

    # -- what others ask --------------------------------------------------------------------------------

    def resident(self) -> tuple[Resident, ...]:
        """Models in memory and on their way there, the one that stays longest first."""
        views = [r.view(self._queued(key)) for key, r in self._residents.items()]
        views += [
            self._loader.view(line, self._queued(line.key))
            for line in self._lines.values()
            if line.progress is not None and line.key not in self._residents
        ]
        return tuple(sorted(views, key=lambda view: view.expires_at, reverse=True))

    def _queued(self, key: str) -> int:
        line = self._lines.get(key)
        return len(line.waiters) if line is not None else 0

    async def unload(self, model: ModelSpec | str) -> bool:
        """Let a model (by name or spec) go: now if it is idle, else after its last request. False: not there."""
        residency = self._find(model)
        if residency is None:
            return False
        residency.keep_alive, residency.stopping = 0.0, True
        if not residency.leases:
            await self._close(residency, "it was asked to")
        self._notify()
        return True

    def _find(self, model: ModelSpec | str) -> Residency | None:
        if isinstance(model, ModelSpec):
            return self._residents.get(key_of(model))
        return next((r for r in self._residents.values() if model in (r.spec.name, r.spec.full_name)), None)

    def in_use(self) -> set[Path]:
        """Files that loaded or loading models may still read: not to be deleted yet. Any thread may ask."""
        used: set[Path] = set()
        for spec in [r.spec for r in list(self._residents.values())] + [n.spec for n in list(self._lines.values())]:
            used |= files_of(spec)
        return used

    async def ping(self, seconds: float) -> list[str]:
        """The loaded models whose engine loop does not answer in time."""

        async def silent(residency: Residency) -> bool:
            try:
                async with asyncio.timeout(seconds):
                    await residency.runner.ping()
            except (ServerError, TimeoutError):
                return True
            return False

        present = [residency for residency in self._residents.values() if not residency.closing]
        found = await asyncio.gather(*map(silent, present))
        return [residency.spec.name for residency, mute in zip(present, found, strict=True) if mute]

    # -- housekeeping -----------------------------------------------------------------------------------

    def _notify(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def _change(self) -> None:
        """Wait until anything about residents or lines is different."""
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        await watcher

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the model manager failed", exc_info=error)
