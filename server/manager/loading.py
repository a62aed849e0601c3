"""How a placed model gets into a worker process: the Load record, the process, the place of its kept prefixes.

Also the shapes of models, read from their headers once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from server.hardware.devices import Machine, ResourceDetector
from server.hardware.memory import Demand, ModelShape, estimate
from server.manager.line import Line
from server.manager.placement import LOWEST_CHOSEN, Placed
from server.manager.policy import Policy
from server.manager.resident import FOREVER, Resident, files_of, key_of
from server.messages import Load
from server.runners.spare import Spare
from server.runners.worker import WorkerRunner
from server.store.digests import Digest
from server.types import LoadOptions, ModelSpec

logger = logging.getLogger(__name__)

PREFIXES = "prefix-cache"
KEPT_SHAPES = 64
SLOW_WEIGHTS = 4 * 2**30
GPU_WAIT, GPU_POLL, GPU_SHARE = 5.0, 0.1, 0.8
"""After an unload, the driver may take a moment until it calls the memory free."""


class Shapes:
    """Shapes of the models used lately; a file's header is read again only under another key."""

    def __init__(self, read: Callable[[Path, tuple[Path, ...]], ModelShape]) -> None:
        self._read = read
        self._known: dict[str, ModelShape] = {}

    def known(self, spec: ModelSpec) -> ModelShape | None:
        return self._known.get(key_of(spec))

    async def of(self, spec: ModelSpec) -> ModelShape:
        key = key_of(spec)
        if key not in self._known:
            others = tuple(sorted(files_of(spec) - {spec.weights}))
            self._known[key] = await asyncio.to_thread(self._read, spec.weights, others)
            while len(self._known) > KEPT_SHAPES:
                del self._known[next(iter(self._known))]
        return self._known[key]


class Loader:
    def __init__(
        self, policy: Policy, environment: Mapping[str, str], data_dir: Path | None, worker_module: str
    ) -> None:
        self._policy = policy
        self._prefixes = data_dir / PREFIXES if data_dir is not None else None
        self._secret = secrets.token_hex(32)
        self._spare = Spare(environment, module=worker_module, enabled=policy.spare)

    async def start(self) -> None:
        """Prefixes of an earlier run were sealed with its own secret: nobody can read them any more."""
        self._spare.refill(soon=True)
        if self._prefixes is not None:
            await asyncio.to_thread(shutil.rmtree, self._prefixes, ignore_errors=True)

    async def close(self) -> None:
        await self._spare.close()

    async def load(self, line: Line, placed: Placed, on_death: Callable[[], None]) -> WorkerRunner:
        began = time.monotonic()

        def progress(fraction: float) -> None:
            line.progress = fraction

        load = self._record(line.spec, placed.options)
        process = self._spare.take(line.spec.size)
        try:
            runner = await WorkerRunner.start(
                load,
                process=process,
                on_progress=progress,
                on_death=on_death,
                stall_timeout=self._policy.load_timeout,
                hang_timeout=self._policy.hang_timeout * _slowness(placed),
            )
        finally:
            self._spare.refill()
        logger.info(
            "loaded %s in %.2f s: %d MiB (estimate %d), window %d x %d, device %s",
            line.spec.name,
            time.monotonic() - began,
            runner.loaded.memory.total >> 20,
            placed.use.total >> 20,
            runner.loaded.num_ctx,
            runner.loaded.num_parallel,
            runner.loaded.device,
        )
        return runner

    def _record(self, spec: ModelSpec, options: LoadOptions) -> Load:
        folder = self._prefix_folder(spec)
        return Load(
            weights=str(spec.weights),
            options=options,
            adapters=tuple(map(str, spec.adapters)),
            projectors=tuple(map(str, spec.projectors)),
            draft=str(spec.draft or ""),
            cache_dir=folder,
            cache_key=self._secret if folder else "",
            parts=tuple(map(str, spec.parts)),
        )

    def _prefix_folder(self, spec: ModelSpec) -> str:
        """ "" where prefixes are not kept, or where the folder cannot be made."""
        if self._prefixes is None or not spec.weights_digest:
            return ""
        name = Digest(spec.weights_digest).hex  # checked: nothing else may become part of a path
        folder = self._prefixes / name
        try:
            self._prefixes.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            logger.warning("prefixes are not kept over an unload: %s", error.strerror)
            return ""
        return str(folder)

    def smaller(self, shape: ModelShape, asked: LoadOptions, placed: Placed) -> Placed | None:
        """The same place with less of what was our choice; None if nothing was."""
        options = placed.options
        if not asked.num_parallel:
            options = replace(options, num_parallel=1)
        if not asked.num_ctx and options.num_ctx // 2 >= LOWEST_CHOSEN:
            options = replace(options, num_ctx=options.num_ctx // 2)
        if options == placed.options:
            return None
        layers = len(shape.layers) + 1 if placed.layers < 0 else placed.layers
        use = estimate(shape, Demand.of(options, layers, max(len(placed.devices), 1)))
        return replace(placed, options=options, use=use)

    async def wait_for_gpu(self, detector: ResourceDetector, before: Machine, freed: int) -> None:
        """Until the driver shows most of ``freed`` bytes more than ``before``; where it is asked anew at all."""
        goal = _free_of(before) + int(GPU_SHARE * freed)
        until = time.monotonic() + GPU_WAIT
        while any(gpu.live for gpu in before.usable_gpus) and time.monotonic() < until:
            if _free_of(await asyncio.to_thread(detector.detect)) >= goal:
                return
            await asyncio.sleep(GPU_POLL)

    def view(self, line: Line, queued: int) -> Resident:
        """Of a model that is being loaded."""
        stay = self._policy.keep_alive
        expires = datetime.now(UTC) + (FOREVER if stay < 0 else timedelta(seconds=stay))
        return Resident(
            line.spec, "loading", line.spec.size, 0, expires, 0, progress=line.progress or 0.0, queued=queued
        )


def _slowness(placed: Placed) -> float:
    """How much longer than usual one engine step may take: large weights on a CPU, read from disk the first time."""
    return max(1.0, (placed.use.weights - min(placed.use.gpu, placed.use.weights)) / SLOW_WEIGHTS)


def _free_of(machine: Machine) -> int:
    return sum(gpu.free for gpu in machine.usable_gpus if gpu.live)
