"""When a worker makes its full context: not under the first answers, but as soon as it rests or is crowded."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, cast

import pytest

from server.messages import Shutdown
from server.worker import main
from server.worker.main import Wire, Worker


class FakeEngine:
    def __init__(self, crowded: bool) -> None:
        self.crowded, self.busy, self.steps = crowded, True, 0

    def step(self) -> None:
        self.steps += 1


class FakeRoom:
    embedder = None

    def __init__(self, crowded: bool) -> None:
        self.engine, self.grown = FakeEngine(crowded), 0

    def grow(self, done: Callable[[Any], None]) -> None:
        self.grown += 1


def worker_with(crowded: bool) -> tuple[Worker, FakeRoom]:
    worker, room = Worker(cast(Wire, None)), FakeRoom(crowded)
    worker.room, worker._may_grow = room, True
    return worker, room


def test_a_stream_is_left_alone() -> None:
    worker, room = worker_with(crowded=False)
    for _ in range(3):
        worker._work()
    assert (room.grown, room.engine.steps) == (0, 3)


def test_a_crowd_gets_its_slots_once() -> None:
    worker, room = worker_with(crowded=True)
    for _ in range(3):
        worker._work()
    assert (room.grown, room.engine.steps) == (1, 3)


def test_rest_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "IDLE", 0.01)
    worker, room = worker_with(crowded=False)

    class Inbox(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            if block and timeout is None:
                self.put(Shutdown())  # so that the wait behind the growth ends
            return super().get(block, timeout)

    worker.inbox = Inbox()
    worker._drain(wait=True)
    assert room.grown == 1
    assert worker._shutdown is not None
