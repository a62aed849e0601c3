"""The door to NVIDIA's library, with a driver that is made up."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from server.hardware import nvidia


class NVMLError(Exception):
    pass


def driver(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> list[str]:
    """Installs a pynvml of two GPUs; ``functions`` replace its own. What was called is in the list."""
    called: list[str] = []
    module: Any = ModuleType("pynvml")
    module.NVMLError = NVMLError
    made: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: called.append("shutdown"),
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=100 + handle, free=50 + handle),
        "nvmlDeviceGetName": lambda handle: b"Tesla T4",
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
    }
    for name, function in (made | functions).items():
        setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return called


def fail(*_: object) -> None:
    raise NVMLError


def test_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    called = driver(monkeypatch)
    first, second = nvidia.gpus()
    assert (first.name, first.uuid, first.total, first.free, first.driver) == ("Tesla T4", "GPU-0", 100, 50, "580.1")
    assert second.uuid == "GPU-1"
    assert called == ["shutdown"]


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount"])
def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    driver(monkeypatch, **{name: fail})
    assert nvidia.gpus() == ()


def test_one_gpu_that_is_lost_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, nvmlDeviceGetMemoryInfo=lambda n: SimpleNamespace(total=1, free=1) if n else fail())
    assert [gpu.uuid for gpu in nvidia.gpus()] == ["GPU-1"]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvidia.gpus() == ()


def test_on_this_machine_it_answers_or_says_nothing() -> None:
    assert all(gpu.total >= gpu.free for gpu in nvidia.gpus())
