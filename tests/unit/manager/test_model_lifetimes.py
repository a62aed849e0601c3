"""Staying, leaving, crashing and the end of a manager, with the fake worker."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from server.errors import Busy, DoesNotFit, InvalidRequest, RunnerDied, RunnerError
from server.manager.manager import ModelManager
from server.types import LoadOptions


def names(manager: ModelManager) -> list[str]:
    return sorted(resident.name.partition(":")[0] for resident in manager.resident())


# -- keep-alive -----------------------------------------------------------------------------------------


async def test_zero_unloads_after_the_last(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(), house.model("a")
    long = asyncio.create_task(ask(manager, model, "count 30 slow 0.01", keep_alive=60))
    await until(lambda: manager.resident() and manager.resident()[0].state == "busy")
    await ask(manager, model, "count 1", keep_alive=0)
    assert names(manager) == ["a"]
    await long
    await until(lambda: not manager.resident())


async def test_the_timer_runs_only_while_idle_and_the_value_sticks(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(keep_alive=99), house.model("a")
    await ask(manager, model, keep_alive=0.3)
    await ask(manager, model, "count 40 slow 0.01")
    assert names(manager) == ["a"]
    began = time.monotonic()
    await until(lambda: not manager.resident())
    assert 0.25 < time.monotonic() - began < 0.6


async def test_for_ever_and_its_date(house: Any, ask: Any) -> None:
    manager, model = house.manager(keep_alive=0.05), house.model("a")
    await ask(manager, model, keep_alive=-1)
    await asyncio.sleep(0.15)
    assert names(manager) == ["a"]
    assert manager.resident()[0].expires_at.year > 2300


async def test_the_default_and_its_date(house: Any, ask: Any) -> None:
    manager = house.manager()
    await ask(manager, house.model("a"))
    left = manager.resident()[0].expires_at - datetime.now(UTC)
    assert timedelta(seconds=298) < left <= timedelta(seconds=300)


async def test_the_date_of_an_idle_model_stands_still(house: Any, ask: Any) -> None:
    manager = house.manager()
    await ask(manager, house.model("a"))
    await ask(manager, house.model("b"), keep_alive=-1)
    dates = [r.expires_at for r in manager.resident()]
    await asyncio.sleep(0.01)
    assert [r.expires_at for r in manager.resident()] == dates


async def test_a_request_that_races_the_timer_wins_or_reloads(house: Any, ask: Any) -> None:
    manager, model = house.manager(), house.model("a")
    for wait in (0.0, 0.01, 0.02, 0.03):
        await ask(manager, model, keep_alive=0.02)
        await asyncio.sleep(wait)
        assert await ask(manager, model, "count 1 say ok", keep_alive=60) == "ok:0 "


async def test_the_latest_expiry_comes_first(house: Any, ask: Any) -> None:
    manager = house.manager()
    for name, stay in (("a", 10), ("b", -1), ("c", 100)):
        await ask(manager, house.model(name), keep_alive=stay)
    assert [r.name for r in manager.resident()] == ["b:latest", "c:latest", "a:latest"]


async def test_unload_by_name_and_by_spec(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(), house.model("a")
    assert not await manager.unload("a:latest")
    await ask(manager, model)
    assert await manager.unload("a:latest")
    assert manager.resident() == ()
    busy = asyncio.create_task(ask(manager, model, "count 30 slow 0.01 say b", keep_alive=-1))
    await until(lambda: manager.resident() and manager.resident()[0].state == "busy")
    assert await manager.unload(replace(model, name="other:latest"))
    assert manager.resident()[0].state == "draining"
    assert manager.resident()[0].expires_at < datetime.now(UTC)
    assert (await busy).endswith("b:29 ")
    await until(lambda: not manager.resident())


# -- out of memory, crashes -----------------------------------------------------------------------------


async def test_a_window_we_chose_is_lowered_after_a_failure(house: Any, ask: Any) -> None:
    manager = house.manager()
    await ask(manager, house.model("a", max_ctx=2048))
    assert manager.resident()[0].context_length == 2048


async def test_a_window_that_was_asked_for_is_kept(house: Any, ask: Any) -> None:
    manager = house.manager()
    with pytest.raises(DoesNotFit):
        await ask(manager, house.model("a", max_ctx=2048), options=LoadOptions(num_ctx=4096, num_parallel=1))
    assert manager.resident() == ()


async def test_idle_models_leave_for_a_second_try(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager()
    await ask(manager, house.model("a"))
    with pytest.raises(DoesNotFit):
        await ask(manager, house.model("b", fail="memory"))
    assert names(manager) == []
    await ask(manager, house.model("a"))
    with pytest.raises(RunnerDied):
        await ask(manager, house.model("c", crash=True))
    assert names(manager) == []


async def test_other_failures_cost_nobody_their_place(house: Any, ask: Any) -> None:
    manager = house.manager()
    await ask(manager, house.model("a"))
    with pytest.raises(RunnerError, match="could not be loaded: model"):
        await ask(manager, house.model("b", fail="model"))
    assert names(manager) == ["a"]


async def test_a_crash_is_one_error_and_the_next_request_reloads(house: Any, ask: Any) -> None:
    manager, model = house.manager(), house.model("a")
    async with manager.lease(model) as runner:
        first = runner.pid
    tasks = [asyncio.create_task(ask(manager, model, "count 1000 slow 0.01")) for _ in range(3)]
    await asyncio.sleep(0.05)
    os.kill(first, signal.SIGKILL)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(r) for r in results] == [RunnerDied] * 3
    assert await ask(manager, model, "count 1 say back") == "back:0 "


async def test_an_idle_crash_is_cleared_away(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(), house.model("a")
    async with manager.lease(model) as runner:
        pid = runner.pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not manager.resident())
    assert await ask(manager, model)


async def test_a_model_that_keeps_crashing_is_left_alone_for_a_while(house: Any, ask: Any) -> None:
    manager, model, other = house.manager(), house.model("a"), house.model("b")
    for _ in range(3):
        with pytest.raises(RunnerDied):
            await ask(manager, model, "count 5 crash 1")
    with pytest.raises(Busy, match="keeps crashing") as caught:
        await ask(manager, model)
    assert 25 < (caught.value.retry_after or 0) <= 30
    assert await ask(manager, other)


# -- the end --------------------------------------------------------------------------------------------


async def test_draining_lets_the_short_finish_and_cuts_the_long(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(), house.model("a")
    short = asyncio.create_task(ask(manager, model, "count 20 slow 0.01 say s"))
    long = asyncio.create_task(ask(manager, model, "count 1000000"))
    await until(lambda: manager.resident() and manager.resident()[0].running == 2)
    draining = asyncio.create_task(manager.drain(0.6))
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="shutting down"):
        await ask(manager, model)
    assert (await short).endswith("s:19 ")
    with pytest.raises(RunnerDied):
        await long
    await draining
    assert not psutil.Process().children()


async def test_draining_an_idle_manager_takes_no_time(house: Any, ask: Any) -> None:
    manager = house.manager()
    await ask(manager, house.model("a"))
    began = time.monotonic()
    await manager.drain(30)
    assert time.monotonic() - began < 1


async def test_closing_during_a_load(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager()
    task = asyncio.create_task(ask(manager, house.model("a", seconds=30, steps=3000)))
    await until(lambda: manager.resident())
    await manager.close()
    with pytest.raises(Busy):
        await task


# -- spare workers and prefixes -------------------------------------------------------------------------


async def test_a_spare_worker_waits_for_the_next_model(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager(spare=True)
    async with manager:
        await until(lambda: psutil.Process().children())
        (child,) = psutil.Process().children()
        async with manager.lease(house.model("a")) as runner:
            assert runner.pid == child.pid
            (again,) = psutil.Process().children()
            assert again.pid == child.pid


async def test_prefixes_are_kept_where_only_we_can_read(house: Any, ask: Any, tmp_path: Path) -> None:
    leftover = tmp_path / "data" / "prefix-cache" / "old"
    leftover.mkdir(parents=True)
    async with house.manager() as manager:
        assert not leftover.exists()
        model = house.model("a")
        await ask(manager, model)
        folder = tmp_path / "data" / "prefix-cache" / model.weights_digest
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with pytest.raises(InvalidRequest):
            await ask(manager, replace(model, weights_digest="../../escape", template="x"))
        assert [path.name for path in folder.parent.iterdir()] == [model.weights_digest]
