"""What this machine has: cores, memory, GPUs, and whether the installed llama.cpp can use them.

``ResourceDetector.detect`` blocks (files, the NVIDIA driver, once a probe of llama.cpp): call it in a thread.
Numbers are read anew each time, the probe's list of devices once.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from server.hardware import cpu, llama, nvidia
from server.hardware.llama import LlamaDevice, Probe
from server.hardware.nvidia import NvidiaGpu

GPU_FILES = ("dev/nvidiactl", "dev/kfd", "dev/dxg", "proc/driver/nvidia/version")
KINDS_OF_BUILD = {"cuda": "CUDA", "rocm": "ROCm", "metal": "Metal", "vulkan": "Vulkan", "cpu": "CPU"}


@dataclass(frozen=True, slots=True)
class Gpu:
    """``index`` is its place among llama.cpp's devices, -1 if llama.cpp cannot use it. ``live``: ``free`` was read
    from the driver just now; otherwise it is from the start, before any model was loaded."""

    index: int
    name: str
    total: int
    free: int
    backend: str
    uuid: str = ""
    driver: str = ""
    live: bool = False

    @property
    def usable(self) -> bool:
        return self.index >= 0


@dataclass(frozen=True, slots=True)
class Machine:
    """``cores``: usable by us; ``physical_cores``: of the whole machine, without hyper-threads, 0 = unknown.

    Memory is the machine's or the tightest cgroup's. ``build``: which llama.cpp is installed ("" = not asked or
    no answer).
    """

    cores: int
    physical_cores: int
    memory_total: int
    memory_available: int
    gpus: tuple[Gpu, ...] = ()
    build: str = ""
    system_info: str = ""
    problems: tuple[str, ...] = field(default=())

    @property
    def usable_gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.gpus if gpu.usable)

    @property
    def threads(self) -> int:
        """How many threads compute best: hyper-threads only where there are few of them."""
        if self.cores <= 4 or not self.physical_cores:
            return self.cores
        return min(self.cores, self.physical_cores)

    def warnings(self) -> tuple[str, ...]:
        """What an operator should change, with what to type."""
        found = list(self.problems)
        idle = [gpu for gpu in self.gpus if not gpu.usable]
        if idle and self.build:
            names = ", ".join(sorted({gpu.name for gpu in idle}))
            found.append(
                f"{names} is idle: the installed llama.cpp is a {KINDS_OF_BUILD[self.build]} build. "
                f"Install CUDA's compiler (nvcc) and run `LLAMADA_BUILD=cuda make setup`."
            )
        if self.build in ("cuda", "rocm", "vulkan") and not self.usable_gpus:
            found.append(
                f"the installed llama.cpp is a {KINDS_OF_BUILD[self.build]} build, but it finds no GPU: "
                f"models run on the CPU. Check the driver, or CUDA_VISIBLE_DEVICES and the like."
            )
        return tuple(found)


class ResourceDetector:
    """``environment`` is what the probe sees of ours. ``lazy``: ask llama.cpp only where there is something
    besides a CPU; the probe takes half a second. ``probe`` and ``nvidia_gpus`` are handed in by tests."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        lazy: bool = False,
        probe: Callable[[Mapping[str, str]], Probe] = llama.probe,
        nvidia_gpus: Callable[[], Sequence[NvidiaGpu]] = nvidia.gpus,
        root: Path = cpu.ROOT,
    ) -> None:
        self._environment = environment
        self._lazy = lazy
        self._probe = probe
        self._nvidia_gpus = nvidia_gpus
        self._root = root
        self._probed: Probe | None = None

    def detect(self) -> Machine:
        memory = cpu.memory(self._root)
        machine = Machine(cpu.usable_cores(self._root), cpu.physical_cores(), memory.total, memory.available)
        if self._lazy and not accelerator_present(self._root):
            return machine
        if self._probed is None or self._probed.problem:
            self._probed = self._probe(self._environment)
        seen = visible(self._nvidia_gpus(), self._environment)
        return replace(
            machine,
            gpus=match(self._probed, seen),
            build=self._probed.build,
            system_info=self._probed.system_info,
            problems=(self._probed.problem,) if self._probed.problem else (),
        )


def accelerator_present(root: Path = cpu.ROOT) -> bool:
    """Is there any sign of a GPU? A macOS machine always has one."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any((root / name).exists() for name in GPU_FILES) or any((root / "dev/dri").glob("renderD*"))


def visible(gpus: Sequence[NvidiaGpu], environment: Mapping[str, str]) -> tuple[NvidiaGpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order: numbers, or beginnings of UUIDs; the first bad entry
    ends the list, as in CUDA."""
    text = environment.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return tuple(gpus)
    chosen: list[NvidiaGpu] = []
    for entry in (part.strip() for part in text.split(",")):
        if entry.isdigit() and int(entry) < len(gpus):
            chosen.append(gpus[int(entry)])
            continue
        named = [gpu for gpu in gpus if entry and gpu.uuid.startswith(entry)]
        if len(named) != 1:
            break
        chosen += named
    return tuple(chosen)


def match(probe: Probe, nvidias: Sequence[NvidiaGpu]) -> tuple[Gpu, ...]:
    """llama.cpp's devices with the driver's numbers where the driver knows them; then GPUs that are left over."""
    left = list(nvidias)
    found: list[Gpu] = []
    for device in probe.devices:
        if device.kind != "gpu":
            continue
        known = next((gpu for gpu in left if device.name.startswith("CUDA") and gpu.name == device.description), None)
        if known is not None:
            left.remove(known)
        found.append(_gpu(len(found), device, probe.build, known))
    idle = [Gpu(-1, g.name, g.total, g.free, "", g.uuid, g.driver, live=True) for g in left]
    return (*found, *idle)


def _gpu(index: int, device: LlamaDevice, backend: str, known: NvidiaGpu | None) -> Gpu:
    name = device.description or device.name
    if known is None:
        return Gpu(index, name, device.total, device.free, backend)
    return Gpu(index, name, known.total, known.free, backend, known.uuid, known.driver, live=True)
