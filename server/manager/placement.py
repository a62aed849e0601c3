"""Where a model goes, with which window and how many sequences; or which model must leave for it.

Pure: a machine, the models in memory, a shape and options in; a verdict out. A window that was asked for is
kept (only cut to what the model was trained for), one that we chose is lowered when it does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from server.errors import DoesNotFit
from server.hardware.devices import Gpu, Machine
from server.hardware.memory import Demand, ModelShape, estimate
from server.manager.policy import Policy
from server.types import LoadOptions, MemoryUse

GIB = 2**30
DEFAULT_CTX = 4096
LARGE_CTX = ((47 * GIB, 262_144), (23 * GIB, 32_768))
"""With that much GPU memory in all, the window we choose is larger (as Ollama chooses)."""
MIN_CTX, MIN_VISION_CTX, LOWEST_CHOSEN = 4, 2048, 512
MAX_PARALLEL = 16
FULL = 0.8
"""Share of a GPU's free memory that a prediction may fill: drivers and fragments take the rest."""
KV_SHARE, PARTIAL_KV_SHARE = 0.4, 0.1
"""Share of free memory that the KV of more than one sequence may take; with layers left out, they come first."""
TINY = 2 * 2**20
"""Weights below which a second thread costs more at the barriers than it computes."""
MARGIN = 256 * 2**20
"""Bytes of main memory left to everybody else."""


@dataclass(frozen=True, slots=True)
class Held:
    """A model in memory. ``promised``: bytes it may still come to take of what the machine calls available.
    ``keep_alive`` is infinite for a model that stays; ``used`` is when it was last used, on any clock."""

    key: str
    use: MemoryUse
    devices: tuple[int, ...] = ()
    idle: bool = True
    keep_alive: float = 0.0
    promised: int = 0
    used: float = 0.0


@dataclass(frozen=True, slots=True)
class Placed:
    """``options`` has every choice made. ``layers`` on devices, -1 = all. ``use`` is the estimate."""

    options: LoadOptions
    devices: tuple[int, ...]
    layers: int
    use: MemoryUse

    @property
    def tensor_split(self) -> tuple[float, ...]:
        return self.options.tensor_split


@dataclass(frozen=True, slots=True)
class Evict:
    key: str


@dataclass(frozen=True, slots=True)
class _Space:
    """What a load may take: bytes of main memory, and of each GPU."""

    memory: int
    gpus: tuple[tuple[Gpu, int], ...]

    @property
    def gpu_total(self) -> int:
        return sum(free for _, free in self.gpus)


def place(
    machine: Machine,
    held: Sequence[Held],
    shape: ModelShape,
    options: LoadOptions,
    policy: Policy,
    *,
    vision: bool = False,
) -> Placed | Evict | DoesNotFit:
    """``DoesNotFit`` is returned, not raised: nothing that could be evicted would make room."""
    order = sorted(held, key=lambda h: (not h.idle, h.keep_alive, h.used))
    limit = policy.max_loaded or 3 * max(len(machine.usable_gpus), 1)
    if len(order) >= limit:
        return Evict(order[0].key)
    options = replace(options, num_thread=options.num_thread or _threads(machine, shape))
    windows = list(_windows(machine, shape, options, policy, vision))
    now, empty = _space(machine, held, (), policy), _space(machine, held, held, policy)
    preferred = [w for w in windows if w >= min(windows[0], DEFAULT_CTX)]
    for tries in (preferred, windows[len(preferred) :]):
        for fit in (_whole, _in_part):
            for window in tries:
                if placed := fit(now, shape, replace(options, num_ctx=window), policy):
                    return placed
            for window in reversed(tries):
                alone = fit(empty, shape, replace(options, num_ctx=window), policy)
                victim = next((h.key for h in order if alone and _helps(h, alone)), None)
                if victim is not None:
                    return Evict(victim)
    return _too_big(empty, shape, replace(options, num_ctx=windows[-1]), chosen=len(windows) > 1)


def window_for(options: LoadOptions, shape: ModelShape, machine: Machine, policy: Policy, *, vision: bool) -> int:
    """The window these options mean on this machine, before memory is looked at."""
    wanted = options.num_ctx or policy.context_length or _default_ctx(machine)
    if policy.max_ctx:
        wanted = min(wanted, policy.max_ctx)
    if vision:
        wanted = max(wanted, MIN_VISION_CTX)
    if shape.trained_ctx:
        wanted = min(wanted, shape.trained_ctx)
    return max(wanted, MIN_CTX)


def _threads(machine: Machine, shape: ModelShape) -> int:
    return 1 if shape.weights < TINY else machine.threads


def _default_ctx(machine: Machine) -> int:
    total = sum(gpu.total for gpu in machine.usable_gpus)
    return next((ctx for size, ctx in LARGE_CTX if total >= size), DEFAULT_CTX)


def _windows(machine: Machine, shape: ModelShape, options: LoadOptions, policy: Policy, vision: bool) -> Iterator[int]:
    """The window to try first and, if it was our choice, smaller ones."""
    window = window_for(options, shape, machine, policy, vision=vision)
    yield window
    if options.num_ctx or policy.context_length:
        return
    lowest = MIN_VISION_CTX if vision else LOWEST_CHOSEN
    while window // 2 >= lowest:
        window //= 2
        yield window


def _space(machine: Machine, held: Sequence[Held], leaving: Sequence[Held], policy: Policy) -> _Space:
    memory = machine.memory_available - MARGIN
    for h in held:
        memory -= h.promised
        if h in leaving:
            memory += h.use.total - h.use.gpu
    return _Space(max(memory, 0), tuple((gpu, _free(gpu, held, leaving, policy)) for gpu in machine.usable_gpus))


def _free(gpu: Gpu, held: Sequence[Held], leaving: Sequence[Held], policy: Policy) -> int:
    """A driver that is asked anew has taken off what loaded models hold; one asked at the start has not."""
    free = gpu.free - policy.gpu_overhead
    for h in held:
        share = h.use.gpu // max(len(h.devices), 1) if gpu.index in h.devices else 0
        if not gpu.live:
            free -= share
        if h in leaving:
            free += share
    return max(free, 0)


def _helps(h: Held, alone: Placed) -> bool:
    """Does ``h`` hold memory of a kind that the new model would use?"""
    if alone.use.gpu and h.use.gpu:
        return True
    return alone.use.total > alone.use.gpu and h.use.total > h.use.gpu and not alone.use.gpu


# -- one window in one space ----------------------------------------------------------------------------


def _whole(space: _Space, shape: ModelShape, options: LoadOptions, policy: Policy) -> Placed | None:
    """All of it in one kind of memory, or as the user said."""
    if options.num_gpu == 0 or not space.gpus:
        return _on_cpu(space, shape, options)
    if options.num_gpu > 0:
        return _as_told(space, shape, options)
    if not policy.spread and (placed := _on_one_gpu(space, shape, options)):
        return placed
    return _on_all_gpus(space, shape, options)


def _in_part(space: _Space, shape: ModelShape, options: LoadOptions, policy: Policy) -> Placed | None:
    """As many layers as fit on all GPUs together, the rest on the CPU; at worst everything there."""
    if options.num_gpu >= 0 or not space.gpus:
        return None
    for parallel in _parallels(options):
        for layers in range(len(shape.layers), 0, -1):
            use = _use(shape, options, parallel, layers, len(space.gpus))
            if use.gpu > FULL * space.gpu_total:
                continue
            fits = use.total - use.gpu <= space.memory
            if fits and _modest(use, parallel, options, PARTIAL_KV_SHARE * space.gpu_total):
                return _spread(space, replace(options, num_parallel=parallel, num_gpu=layers), layers, use)
            break
    return _on_cpu(space, shape, options)


def _parallels(options: LoadOptions) -> Sequence[int]:
    return (options.num_parallel,) if options.num_parallel else range(MAX_PARALLEL, 0, -1)


def _use(shape: ModelShape, options: LoadOptions, parallel: int, layers: int = 0, devices: int = 1) -> MemoryUse:
    return estimate(shape, Demand.of(replace(options, num_parallel=parallel), layers, devices))


def _modest(use: MemoryUse, parallel: int, options: LoadOptions, room: float) -> bool:
    """One sequence may take what there is; more of them, if the number is ours to choose, only a share."""
    return parallel == 1 or options.num_parallel > 0 or use.kv <= room


def _on_cpu(space: _Space, shape: ModelShape, options: LoadOptions) -> Placed | None:
    for parallel in _parallels(options):
        use = _use(shape, options, parallel)
        if use.total <= space.memory and _modest(use, parallel, options, KV_SHARE * space.memory):
            return Placed(replace(options, num_parallel=parallel, num_gpu=0), (), 0, use)
    return None


def _on_one_gpu(space: _Space, shape: ModelShape, options: LoadOptions) -> Placed | None:
    if options.tensor_split:
        return None
    gpus = sorted(space.gpus, key=lambda pair: -pair[1])
    if options.main_gpu:
        gpus = [pair for pair in gpus if pair[0].index == options.main_gpu]
    for gpu, free in gpus[:1]:
        for parallel in _parallels(options):
            use = _use(shape, options, parallel, len(shape.layers) + 1)
            if use.gpu <= FULL * free and _modest(use, parallel, options, KV_SHARE * free):
                split = tuple(float(g.index == gpu.index) for g, _ in space.gpus) if len(space.gpus) > 1 else ()
                chosen = replace(options, num_parallel=parallel, tensor_split=split, main_gpu=gpu.index)
                return Placed(chosen, (gpu.index,), -1, use)
    return None


def _on_all_gpus(space: _Space, shape: ModelShape, options: LoadOptions) -> Placed | None:
    for parallel in _parallels(options):
        use = _use(shape, options, parallel, len(shape.layers) + 1, len(space.gpus))
        if use.gpu <= FULL * space.gpu_total and _modest(use, parallel, options, KV_SHARE * space.gpu_total):
            return _spread(space, replace(options, num_parallel=parallel), -1, use)
    return None


def _as_told(space: _Space, shape: ModelShape, options: LoadOptions) -> Placed | None:
    """The number of layers was given: on one GPU if they fit there, else on all; llama.cpp has the last word."""
    layers = options.num_gpu
    best = max(free for _, free in space.gpus)
    for parallel in _parallels(options):
        use = _use(shape, options, parallel, layers, 1)
        if use.total - use.gpu > space.memory or not _modest(use, parallel, options, KV_SHARE * space.gpu_total):
            continue
        chosen = replace(options, num_parallel=parallel)
        if use.gpu <= FULL * best and not options.tensor_split and len(space.gpus) > 1:
            gpu = next(gpu for gpu, free in space.gpus if free == best)
            split = tuple(float(g.index == gpu.index) for g, _ in space.gpus)
            return Placed(replace(chosen, tensor_split=split, main_gpu=gpu.index), (gpu.index,), layers, use)
        return _spread(space, chosen, layers, _use(shape, options, parallel, layers, len(space.gpus)))
    return None


def _spread(space: _Space, options: LoadOptions, layers: int, use: MemoryUse) -> Placed:
    devices = tuple(gpu.index for gpu, _ in space.gpus)
    split = options.tensor_split
    if not split and len(devices) > 1 and space.gpu_total:
        split = tuple(round(free / space.gpu_total, 4) for _, free in space.gpus)
    return Placed(replace(options, tensor_split=split), devices, layers, use)


def _too_big(space: _Space, shape: ModelShape, options: LoadOptions, *, chosen: bool) -> DoesNotFit:
    use = _use(shape, options, max(options.num_parallel, 1))
    have = space.memory + (int(FULL * space.gpu_total) if options.num_gpu else 0)
    advice = []
    if use.kv > use.weights // 8 and not chosen:
        advice.append(f"a smaller num_ctx than {options.num_ctx}")
    if options.num_parallel > 1:
        advice.append(f"a smaller num_parallel than {options.num_parallel}")
    if options.kv_cache_type in ("f16", "f32", "bf16") and use.kv > use.weights // 8:
        advice.append('kv_cache_type "q8_0"')
    advice.append("a smaller or more strongly quantized model")
    return DoesNotFit(
        f"model requires more system memory ({_gib(use.total)}) than is available ({_gib(have)}); "
        f"try {' or '.join(advice)}"
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
