"""What NVIDIA's driver says of its GPUs. ``pynvml`` is imported only when asked, and only here."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NvidiaGpu:
    """In the driver's order, which need not be CUDA's: ``devices.match`` goes by names."""

    name: str
    uuid: str
    total: int
    free: int
    driver: str


def gpus() -> tuple[NvidiaGpu, ...]:
    """() where there is no driver, no GPU, or a driver that does not answer."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        found = [_gpu(pynvml, number, driver) for number in range(int(pynvml.nvmlDeviceGetCount()))]
    except pynvml.NVMLError:
        return ()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return tuple(gpu for gpu in found if gpu is not None)


def _gpu(nvml: Any, number: int, driver: str) -> NvidiaGpu | None:
    """None for a GPU that has fallen off the bus or is not ours to see: the others still count."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(number)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return NvidiaGpu(
            name=_text(nvml.nvmlDeviceGetName(handle)),
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            total=int(memory.total),
            free=int(memory.free),
            driver=driver,
        )
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
