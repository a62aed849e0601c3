"""Workers killed, stopped and crashed under load, and servers killed over their workers.

The fake worker where exactness counts, the real one (tiny models) where libllama does.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from server.errors import Busy, RunnerDied
from server.hardware.devices import Machine
from server.hardware.memory import Layer, ModelShape
from server.manager.manager import ModelManager
from server.manager.policy import Policy
from server.types import Generation, Limits, ModelSpec, Sampling, TextPrompt

TESTS = Path(__file__).resolve().parents[1]
MODELS = TESTS / "golden" / "models"
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
POLICY = Policy(spare=False, hang_timeout=1.0)


class Detector:
    def detect(self) -> Machine:
        return Machine(1, 1, 2**34, 2**34)


def spec_of(path: Path) -> ModelSpec:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelSpec(f"{path.stem}:latest", path.stem, digest, digest, path, path.stat().st_size)


def manager_of(kind: str, **options: Any) -> ModelManager:
    if kind == "fake":
        options |= {"worker_module": "fake_worker", "read_shape": lambda *_: ModelShape((Layer(),))}
    detector: Any = Detector()
    return ModelManager(POLICY, environment=ENVIRONMENT, detector=detector, **options)


@pytest.fixture(params=["fake", "real"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str, tmp_path: Path) -> ModelSpec:
    if kind == "real":
        return spec_of(MODELS / "nano.gguf")
    path = tmp_path / "model.json"
    path.write_text("{}")
    return spec_of(path)


def generation(kind: str, tokens: int, seed: int = 1) -> Generation:
    text = f"count {tokens} slow 0.005 say s{seed}" if kind == "fake" else "one two three"
    limits = Limits(num_predict=tokens, num_ctx=0)
    return Generation(
        TextPrompt(text, raw=True), Sampling(temperature=3.0, top_k=0, top_p=1.0, ignore_eos=True, seed=seed), limits
    )


async def stream(manager: ModelManager, model: ModelSpec, wanted: Generation) -> str:
    async with manager.lease(model) as runner, aclosing(runner.generate(wanted)) as chunks:
        return "".join([chunk.content async for chunk in chunks])


async def worker_pid(manager: ModelManager, model: ModelSpec) -> int:
    async with manager.lease(model) as runner:
        return runner.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGSTOP])
async def test_a_fault_under_load_is_one_error_each_and_then_a_reload(
    kind: str, model: ModelSpec, number: signal.Signals
) -> None:
    async with manager_of(kind) as manager:
        expected = await stream(manager, model, generation(kind, 12))
        pid = await worker_pid(manager, model)
        tasks = [asyncio.create_task(stream(manager, model, generation(kind, 1_000_000, n))) for n in range(8)]
        await asyncio.sleep(0.15)
        began = time.monotonic()
        os.kill(pid, number)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        took = time.monotonic() - began
        assert [type(result) for result in results] == [RunnerDied] * 8
        assert took < (3.0 if number == signal.SIGSTOP else 0.5)
        assert await stream(manager, model, generation(kind, 12)) == expected
        assert not psutil.pid_exists(pid)


async def test_a_campaign_of_kills_loses_and_mixes_nothing(tmp_path: Path) -> None:
    """Every request is complete or ends with one error; nobody gets another's tokens; the manager lives."""
    path = tmp_path / "model.json"
    path.write_text("{}")
    model, dice = spec_of(path), random.Random(7)
    outcomes: list[str] = []

    async def client(manager: ModelManager, number: int) -> None:
        for turn in range(12):
            length = dice.randint(1, 30)
            word = f"c{number}t{turn}"
            wanted = Generation(TextPrompt(f"count {length} slow 0.001 say {word}", raw=True))
            try:
                text = await asyncio.wait_for(stream(manager, model, wanted), 5)
            except RunnerDied:
                outcomes.append("died")
            except Busy:
                outcomes.append("busy")
            else:
                assert text == "".join(f"{word}:{n} " for n in range(length))
                outcomes.append("whole")

    async def killer(manager: ModelManager) -> None:
        for number in (signal.SIGKILL, signal.SIGSEGV):
            await asyncio.sleep(0.15)
            for child in psutil.Process().children():
                child.send_signal(number)

    async with manager_of("fake") as manager:
        clients = [client(manager, n) for n in range(10)]
        await asyncio.gather(killer(manager), *clients)
        assert await stream(manager, model, generation("fake", 1)) == "s1:0 "
    assert len(outcomes) == 120
    assert outcomes.count("whole") > 60
    assert "died" in outcomes


async def test_twenty_loads_and_unloads_leave_nothing(kind: str, model: ModelSpec) -> None:
    me = psutil.Process()
    async with manager_of(kind) as manager:
        await stream(manager, model, generation(kind, 1))
        await manager.unload(model)
        gc.collect()
        before = (me.num_fds(), me.num_threads(), len(asyncio.all_tasks()))
        for turn in range(20):
            async with manager.lease(model, keep_alive=0 if turn % 2 else 60) as runner:
                pid = runner.pid
            await manager.unload(model)
            if turn % 2 == 0:
                assert not psutil.pid_exists(pid)
        while manager.resident():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not me.children()
        fds, threads, tasks = me.num_fds(), me.num_threads(), len(asyncio.all_tasks())
        assert (fds, tasks) == (before[0], before[2])
        assert threads <= before[1] + 1  # the executor may have started one more of its few
    assert not me.children()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such order")
def test_when_memory_runs_out_the_kernel_takes_a_worker_before_the_server() -> None:
    code = "from server.worker import sandbox; sandbox.enter(); print(open('/proc/self/oom_score_adj').read())"
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=TESTS.parent, check=True)
    assert int(found.stdout) > int(Path("/proc/self/oom_score_adj").read_text())


# -- the server itself is killed ------------------------------------------------------------------------

SERVER = """
import asyncio, sys
sys.path[:0] = [{tests!r}, {root!r}, {faults!r}]
from pathlib import Path
import test_worker_faults as faults

async def main():
    model = faults.spec_of(Path({weights!r}))
    async with faults.manager_of({kind!r}) as manager:
        async with manager.lease(model) as runner:
            print(runner.pid, flush=True)
            async for _ in runner.generate(faults.generation({kind!r}, 100000)):
                pass

asyncio.run(main())
"""


@pytest.fixture
def server(kind: str, model: ModelSpec) -> Iterator[subprocess.Popen[str]]:
    code = SERVER.format(
        tests=str(TESTS), root=str(TESTS.parent), faults=str(TESTS / "faults"), weights=str(model.weights), kind=kind
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("stopped", [False, True])
def test_no_worker_outlives_a_killed_server(server: subprocess.Popen[str], kind: str, stopped: bool) -> None:
    """Even a worker that is stopped, and so cannot notice anything by itself, when it has tied itself to us."""
    if stopped and (kind == "fake" or sys.platform != "linux"):
        pytest.skip("only a real worker on Linux asks the kernel for it")
    assert server.stdout is not None
    worker = psutil.Process(int(server.stdout.readline()))
    if stopped:
        worker.suspend()
    server.kill()
    server.wait()
    assert gone(worker, 2.0)


def gone(process: psutil.Process, within: float) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False
