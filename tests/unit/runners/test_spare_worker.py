"""The worker that waits for the next load."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from server.errors import RunnerError
from server.runners.process import SPIN_THRESHOLD
from server.runners.spare import Spare

TESTS = Path(__file__).resolve().parents[2]
BASE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS)}


@pytest.fixture
async def spares() -> AsyncIterator[Any]:
    made: list[Spare] = []

    def make(base: dict[str, str] = BASE, **options: Any) -> Spare:
        made.append(Spare(base, module="fake_worker", delay=0.01, **options))
        return made[-1]

    yield make
    for spare in made:
        await spare.close()
    await asyncio.sleep(0.05)
    assert not psutil.Process().children()


async def spin_of(pid: int) -> str | None:
    """The kernel shows an empty environment for a moment while a program is being started."""
    while not (found := psutil.Process(pid).environ()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return found.get("GOMP_SPINCOUNT")


async def test_it_is_taken_and_another_takes_its_place(spares: Any) -> None:
    spare = spares()
    spare.refill(soon=True)
    await asyncio.sleep(0.05)
    waiting = spare.pid
    process = spare.take(0)
    assert process.pid == waiting
    assert spare.pid == 0
    spare.refill()
    spare.refill()
    await asyncio.sleep(0.05)
    assert spare.pid not in (0, waiting)
    await process.stop()


async def test_one_of_the_wrong_kind_is_replaced(spares: Any) -> None:
    spare = spares()
    spare.refill(soon=True)
    await asyncio.sleep(0.05)
    small = spare.pid
    large = spare.take(SPIN_THRESHOLD + 1)
    assert large.pid != small
    assert await spin_of(large.pid) == "500"
    spare.refill()
    await asyncio.sleep(0.05)
    next_one = spare.take(SPIN_THRESHOLD + 1)
    assert await spin_of(next_one.pid) == "500"
    await asyncio.gather(large.stop(), next_one.stop())


async def test_where_the_user_decides_on_spinning_there_is_one_kind(spares: Any) -> None:
    spare = spares(BASE | {"GOMP_SPINCOUNT": "7"})
    spare.refill(soon=True)
    await asyncio.sleep(0.05)
    waiting = spare.pid
    process = spare.take(SPIN_THRESHOLD + 1)
    assert process.pid == waiting
    await process.stop()


async def test_a_dead_one_is_not_given_out(spares: Any) -> None:
    spare = spares()
    spare.refill(soon=True)
    await asyncio.sleep(0.05)
    dead = spare.pid
    os.kill(dead, signal.SIGKILL)
    await asyncio.sleep(0.05)
    process = spare.take(0)
    assert process.pid != dead
    await process.stop()


@pytest.mark.parametrize("failing", ["os.pipe", "subprocess.Popen"])
async def test_no_process_can_be_started(spares: Any, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    spare, before = spares(), psutil.Process().num_fds()
    monkeypatch.setattr(failing, refuse)
    with pytest.raises(RunnerError, match=r"too many open files; raise the limit of open files \(ulimit -n\)"):
        spare.take(0)
    assert psutil.Process().num_fds() == before


async def test_switched_off(spares: Any) -> None:
    spare = spares(enabled=False)
    spare.refill(soon=True)
    await asyncio.sleep(0.05)
    assert spare.pid == 0
    await spare.take(0).stop()
