"""What is reported of cores, cgroup limits and GPUs, from made-up files and drivers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.hardware import cpu, llama
from server.hardware.devices import Machine, ResourceDetector, accelerator_present, match, visible
from server.hardware.llama import LlamaDevice, Probe
from server.hardware.nvidia import NvidiaGpu

GIB = 2**30
TESTS = Path(__file__).resolve().parents[2]
H200 = NvidiaGpu("NVIDIA H200", "GPU-aaaa", 141 * GIB, 140 * GIB, "580.1")
T4 = NvidiaGpu("Tesla T4", "GPU-bbbb", 16 * GIB, 15 * GIB, "580.1")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cgroup_v2_limits_count_at_every_level(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory",
            "sys/fs/cgroup/pod/memory.max": str(4 * GIB),
            "sys/fs/cgroup/pod/memory.current": str(3 * GIB),
            "sys/fs/cgroup/pod/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            "sys/fs/cgroup/pod/box/memory.max": "max",
            "sys/fs/cgroup/pod/box/memory.current": "77",
            "sys/fs/cgroup/pod/cpu.max": "150000 100000",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
        },
    )
    assert (4 * GIB, 2 * GIB) in set(cpu.memory_limits(root))
    memory = cpu.memory(root)
    assert memory.total == 4 * GIB
    assert memory.available <= 2 * GIB
    assert cpu.cpu_quota(root) == 1.5
    assert cpu.usable_cores(root) == 1


def test_cgroup_v1_limits(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:memory:/gone/away\n2:cpu,cpuacct:/\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * GIB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB // 2}\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert list(cpu.memory_limits(root)) == [(2 * GIB, GIB // 2)]
    assert cpu.memory(root).total == 2 * GIB
    assert cpu.cpu_quota(root) >= 1


@pytest.mark.parametrize("text", ["", "nonsense", "0::", "1:memory:/../../etc\n", "::::\n"])
def test_odd_cgroup_files_mean_no_limit(tmp_path: Path, text: str) -> None:
    root = write(tmp_path, {"proc/self/cgroup": text, "sys/fs/cgroup/memory.max": "x"})
    assert cpu.memory(root).total > 0
    assert cpu.usable_cores(root) >= 1


def test_committed_memory_of_a_process() -> None:
    assert cpu.committed(os.getpid()) > 2**20
    assert cpu.committed(2**22 + 1) == 0


def test_this_machine_is_described_without_a_probe_where_nothing_asks_for_one(tmp_path: Path) -> None:
    def refuse(_: object) -> Probe:
        raise AssertionError("the probe was not needed")

    machine = ResourceDetector({}, lazy=True, probe=refuse, root=tmp_path).detect()
    assert machine.cores >= 1
    assert 0 < machine.memory_available <= machine.memory_total
    assert machine.gpus == ()
    assert machine.warnings() == ()


def test_the_probe_is_asked_once_and_again_only_after_a_failure() -> None:
    answers = [Probe(problem="no"), Probe("cpu"), Probe("cuda")]
    detector = ResourceDetector({}, probe=lambda _: answers.pop(0), nvidia_gpus=lambda: ())
    assert detector.detect().problems == ("no",)
    assert detector.detect().build == "cpu"
    assert detector.detect().build == "cpu"


@pytest.mark.parametrize("name", ["dev/nvidiactl", "dev/kfd", "dev/dri/renderD128"])
@pytest.mark.skipif(sys.platform == "darwin", reason="always has a GPU")
def test_signs_of_a_gpu(tmp_path: Path, name: str) -> None:
    assert not accelerator_present(tmp_path)
    assert accelerator_present(write(tmp_path, {name: ""}))


def test_devices_of_llama_are_matched_with_the_drivers_numbers() -> None:
    probe = Probe(
        "cuda",
        (
            LlamaDevice("CPU", "EPYC", "cpu", 1, 1),
            LlamaDevice("CUDA0", "Tesla T4", "gpu", 1, 2),
            LlamaDevice("CUDA1", "NVIDIA H200", "gpu", 3, 4),
        ),
    )
    t4, h200 = match(probe, (H200, T4))
    assert (t4.index, t4.uuid, t4.free, t4.live) == (0, "GPU-bbbb", 15 * GIB, True)
    assert (h200.index, h200.name, h200.driver) == (1, "NVIDIA H200", "580.1")


def test_a_gpu_without_driver_numbers_keeps_the_probes() -> None:
    (gpu,) = match(Probe("metal", (LlamaDevice("Metal", "Apple M3", "gpu", 10, 20),)), ())
    assert (gpu.index, gpu.free, gpu.total, gpu.live) == (0, 10, 20, False)


def test_a_cpu_build_beside_an_idle_gpu_is_warned_of() -> None:
    machine = Machine(2, 2, GIB, GIB, match(Probe("cpu"), (H200,)), "cpu")
    assert machine.usable_gpus == ()
    (warning,) = machine.warnings()
    assert "NVIDIA H200 is idle" in warning
    assert "make setup" in warning


def test_a_cuda_build_without_a_gpu_is_warned_of() -> None:
    assert "finds no GPU" in Machine(2, 2, GIB, GIB, build="cuda").warnings()[0]


@pytest.mark.parametrize(
    ("value", "names"),
    [("0", "a"), ("1,0", "ba"), ("GPU-b", "b"), ("", ""), ("-1", ""), ("1,7,0", "b"), ("0,GPU-", "a")],
)
def test_cuda_visible_devices(value: str, names: str) -> None:
    seen = visible((H200, T4), {"CUDA_VISIBLE_DEVICES": value})
    assert "".join(gpu.uuid[4] for gpu in seen) == names
    assert visible((H200, T4), {}) == (H200, T4)


@pytest.mark.parametrize(("cores", "physical", "threads"), [(2, 1, 2), (16, 8, 8), (6, 0, 6), (6, 8, 6), (4, 2, 4)])
def test_threads(cores: int, physical: int, threads: int) -> None:
    assert Machine(cores, physical, 1, 1).threads == threads


def test_a_probe_of_a_real_child() -> None:
    found = llama.probe(
        {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}, (sys.executable, "-m", "fake_worker", "--probe")
    )
    assert (found.build, found.problem) == ("cpu", "")
    assert found.devices[0].kind == "cpu"


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-c", "raise SystemExit(3)"),
        (sys.executable, "-c", "print('{')"),
        ("/nowhere/at/all",),
        (sys.executable, "-c", ""),
    ],
)
def test_a_probe_that_fails_says_so(command: tuple[str, ...]) -> None:
    assert llama.probe({}, command).problem


def test_the_drivers_library_is_not_imported_with_the_room() -> None:
    code = (
        "import sys, server.hardware.devices, server.hardware.memory;"
        "print([m for m in ('pynvml', 'psutil', 'numpy', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TESTS.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
