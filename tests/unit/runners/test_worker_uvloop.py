"""The same under uvloop, whose transports and readers are its own: the server's loop where it is installed."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from server.errors import RunnerDied
from server.messages import Load
from server.runners.process import WorkerProcess, worker_environment
from server.runners.worker import WorkerRunner
from server.types import Generation, LoadOptions, TextPrompt

uvloop = pytest.importorskip("uvloop")
TESTS = Path(__file__).resolve().parents[2]


async def life(weights: Path, end: str) -> None:
    environment = worker_environment({"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS)}, short_spin=True)
    process = WorkerProcess.spawn(environment, "fake_worker")
    runner = await WorkerRunner.start(Load(str(weights), LoadOptions()), process=process, hang_timeout=0.4)

    async def say(text: str) -> str:
        async with aclosing(runner.generate(Generation(TextPrompt(text, raw=True)))) as chunks:
            return "".join([chunk.content async for chunk in chunks])

    assert await asyncio.gather(*(say(f"count 50 say w{n}") for n in range(8))) == [
        "".join(f"w{n}:{i} " for i in range(50)) for n in range(8)
    ]
    assert len(await runner.tokenize("x" * 5_000_000)) == 5_000_000
    if end != "close":
        open_request = asyncio.create_task(say("count 1000000 slow 0.01"))
        await asyncio.sleep(0.05)
        os.kill(runner.pid, signal.SIGKILL if end == "kill" else signal.SIGSTOP)
        with pytest.raises(RunnerDied):
            await asyncio.wait_for(open_request, 2)
    await runner.close()
    assert not psutil.pid_exists(runner.pid)


def test_lives_under_uvloop(tmp_path: Path) -> None:
    weights = tmp_path / "model.json"
    weights.write_text("{}")

    async def lives() -> None:
        await life(weights, "close")
        before = psutil.Process().num_fds()
        for end in ("kill", "stop", "close"):
            await life(weights, end)
        assert psutil.Process().num_fds() == before
        assert len(asyncio.all_tasks()) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(lives())
