"""Template code that would never end is stopped, in any thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from server.errors import InvalidRequest
from server.worker.chat.deadline import Budget


def spin() -> None:
    while True:
        try:
            sum(range(100))
        except Exception:  # what a careless template interpreter might do
            continue


def in_thread(function: Callable[[], None]) -> BaseException | None:
    caught: list[BaseException] = []

    def target() -> None:
        try:
            function()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return caught[0] if caught else None


def test_results_and_errors_pass_through() -> None:
    assert Budget().run(lambda: 7) == 7
    with pytest.raises(KeyError):
        Budget().run(lambda: {}["x"])


@pytest.mark.parametrize("where", ["main thread", "other thread"])
def test_an_endless_loop_is_stopped(where: str) -> None:
    begun = time.thread_time()

    def bomb() -> None:
        Budget(0.2).run(spin)

    if where == "main thread":
        with pytest.raises(InvalidRequest, match=r"^chat template failed: time limit$"):
            bomb()
        assert time.thread_time() - begun < 0.7
    else:
        error = in_thread(bomb)
        assert isinstance(error, InvalidRequest)
    for _ in range(10_000):  # nothing comes afterwards
        pass


def test_the_budget_is_shared_by_all_calls() -> None:
    budget = Budget(0.1)
    with pytest.raises(InvalidRequest):
        budget.run(spin)
    with pytest.raises(InvalidRequest, match="time limit"):
        budget.run(lambda: 1)


def test_waiting_costs_nothing() -> None:
    budget = Budget(0.1)
    budget.run(lambda: time.sleep(0.3))
    assert budget.run(lambda: 1) == 1


def test_growing_memory_is_stopped() -> None:
    def grow() -> None:
        kept = []
        while True:
            kept.append("x" * 1_000_000)

    with pytest.raises(InvalidRequest, match="memory limit"):
        Budget(5.0, growth=100_000_000).run(grow)


def test_running_out_of_memory_is_an_answer() -> None:
    def exhausted() -> None:
        raise MemoryError

    with pytest.raises(InvalidRequest, match="memory limit"):
        Budget().run(exhausted)


def test_a_stop_that_races_with_the_end_is_never_seen_outside() -> None:
    for _ in range(8):
        begun = time.thread_time()
        budget = Budget(0.048)
        with contextlib.suppress(InvalidRequest):
            budget.run(partial(busy_until, begun + 0.0495))
        for _ in range(2000):
            pass


def busy_until(moment: float) -> None:
    while time.thread_time() < moment:
        pass
