"""Loading, sharing, waiting, evicting and unloading, with the fake worker."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from server.errors import Busy, DoesNotFit, RunnerDied, RunnerError
from server.manager.manager import ModelManager
from server.manager.placement import Placed, window_for
from server.manager.resident import Residency, key_of
from server.types import Loaded, LoadOptions, MemoryUse


def names(manager: ModelManager) -> list[str]:
    return sorted(resident.name.partition(":")[0] for resident in manager.resident())


# -- load -----------------------------------------------------------------------------------------------


async def test_a_model_is_loaded_once_and_stays(house: Any, ask: Any) -> None:
    manager, model = house.manager(), house.model("a")
    assert await ask(manager, model) == "t:0 t:1 "
    async with manager.lease(model) as runner:
        first = runner.pid
    assert await ask(manager, model) == "t:0 t:1 "
    async with manager.lease(model) as runner:
        assert runner.pid == first
    (resident,) = manager.resident()
    assert (resident.name, resident.digest, resident.state) == ("a:latest", model.digest, "ready")
    assert resident.size == 2**20 + 10
    assert resident.context_length == 4096
    assert house.detector.looks == 1


async def test_many_callers_share_one_load(house: Any, ask: Any) -> None:
    manager, model = house.manager(), house.model("a", seconds=0.3)
    texts = await asyncio.gather(*(ask(manager, model, f"count 3 say w{n}") for n in range(20)))
    assert texts == [f"w{n}:0 w{n}:1 w{n}:2 " for n in range(20)]
    assert house.detector.looks == 1


@pytest.mark.parametrize(("kind", "error"), [("memory", DoesNotFit), ("model", RunnerError)])
async def test_a_failed_load_leaves_nothing(house: Any, ask: Any, kind: str, error: type[Exception]) -> None:
    manager, model = house.manager(), house.model("a", fail=kind)
    results = await asyncio.gather(*(ask(manager, model) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [error] * 3
    assert manager.resident() == ()
    assert manager.in_use() == set()
    assert not psutil.Process().children()
    house.model("a")
    assert await ask(manager, model)


async def test_a_load_shows_its_progress(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(), house.model("a", seconds=0.6, steps=6)
    task = asyncio.create_task(ask(manager, model))
    await until(lambda: manager.resident() and manager.resident()[0].progress > 0.3)
    (resident,) = manager.resident()
    assert resident.state == "loading"
    assert resident.progress < 1
    assert resident.queued == 1
    assert manager.in_use() == {model.weights}
    await task


async def test_files_that_cannot_be_read(house: Any, ask: Any, tmp_path: Path) -> None:
    manager = ModelManager(house.policy, environment={}, detector=house.detector)
    house.managers.append(manager)
    model = replace(house.model("a"), weights=tmp_path / "gone")
    with pytest.raises(Exception, match="error loading model: its file cannot be read: No such file") as caught:
        await ask(manager, model)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(Exception, match="error loading model: supplied file was not in GGUF format"):
        await ask(manager, house.model("b"))


# -- effective context, reuse and reload ----------------------------------------------------------------


@pytest.mark.parametrize(("asked", "window"), [(0, 4096), (512, 512), (100_000, 8192)])
async def test_the_window_in_effect(house: Any, ask: Any, asked: int, window: int) -> None:
    manager = house.manager()
    await ask(manager, house.model("a"), options=LoadOptions(num_ctx=asked))
    assert manager.resident()[0].context_length == window


BASE = LoadOptions(num_ctx=2048, num_parallel=2)


@pytest.mark.parametrize(
    ("first", "second", "reloads"),
    [
        (BASE, BASE, False),
        (BASE, replace(BASE, num_ctx=1024), False),
        (BASE, replace(BASE, num_ctx=4096), True),
        (BASE, replace(BASE, num_ctx=0), True),
        (LoadOptions(num_ctx=8192), LoadOptions(), False),
        (LoadOptions(num_ctx=8192), LoadOptions(num_ctx=99_999), False),
        (LoadOptions(), LoadOptions(num_ctx=4096), False),
        (BASE, replace(BASE, num_parallel=1), False),
        (BASE, replace(BASE, num_parallel=0), False),
        (BASE, replace(BASE, num_parallel=3), True),
        (BASE, replace(BASE, num_batch=256), True),
        (BASE, replace(BASE, num_gpu=0), True),
        (replace(BASE, num_gpu=0), BASE, False),
        (BASE, replace(BASE, main_gpu=1), True),
        (BASE, replace(BASE, use_mmap=False), True),
        (replace(BASE, use_mmap=False), BASE, False),
        (BASE, replace(BASE, num_thread=1), True),
        (replace(BASE, num_thread=1), BASE, False),
        (BASE, replace(BASE, kv_cache_type="q8_0"), True),
        (replace(BASE, kv_cache_type="q8_0"), BASE, True),
        (BASE, replace(BASE, flash_attention=True), True),
        (BASE, replace(BASE, draft_num_predict=4), True),
        (BASE, replace(BASE, cpu_moe=2), True),
    ],
)
def test_which_options_reload(house: Any, first: LoadOptions, second: LoadOptions, reloads: bool) -> None:
    loaded = Loaded(first.num_ctx or 4096, first.num_parallel or 4, 1, MemoryUse(1), 8192, 1, "none", 1)
    runner: Any = SimpleNamespace(loaded=loaded)
    model = house.model("a")
    placed = Placed(first, (), 0, loaded.memory)
    residency = Residency(key_of(model), model, first, placed, runner, 300.0)
    window = window_for(second, house.shapes[model.weights], house.detector.machine, house.policy, vision=False)
    assert residency.serves(second, window) is not reloads


async def test_a_larger_window_reloads_and_a_smaller_one_does_not(house: Any) -> None:
    manager, model = house.manager(), house.model("a")
    pids = []
    for num_ctx in (1024, 512, 2048, 1024):
        async with manager.lease(model, LoadOptions(num_ctx=num_ctx)) as runner:
            pids.append(runner.pid)
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert len(manager.resident()) == 1


async def test_a_worker_belongs_to_weights_adapters_and_template(house: Any, tmp_path: Path) -> None:
    manager, model = house.manager(), house.model("a")
    other_name = replace(model, name="b:latest", digest="b" * 64, parameters={"temperature": 0}, system="x")
    adapter = tmp_path / "adapter"
    adapter.write_text("{}")
    pids = []
    for spec in (model, other_name, replace(model, adapters=(adapter,)), replace(model, template="{{ .Prompt }}")):
        async with manager.lease(spec) as runner:
            pids.append(runner.pid)
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3
    assert "a:latest" in {resident.name for resident in manager.resident()}
    assert "b:latest" not in {resident.name for resident in manager.resident()}
    assert manager.in_use() == {model.weights, adapter}


async def test_a_reload_waits_for_those_who_are_in(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(), house.model("a")
    order: list[str] = []

    async def timed(name: str, text: str, num_ctx: int) -> None:
        await ask(manager, model, text, options=LoadOptions(num_ctx=num_ctx))
        order.append(name)

    first = asyncio.create_task(timed("first", "count 20 slow 0.01", 512))
    await until(lambda: manager.resident() and manager.resident()[0].state == "busy")
    larger = asyncio.create_task(timed("larger", "count 1", 1024))
    await until(lambda: manager.resident()[0].state == "draining")
    small_again = asyncio.create_task(timed("small again", "count 1 slow 0.1", 512))
    await asyncio.gather(first, larger, small_again)
    assert order == ["first", "larger", "small again"]
    assert manager.resident()[0].context_length == 1024


# -- several models, eviction ---------------------------------------------------------------------------


async def test_models_side_by_side_and_the_limit_of_their_number(house: Any, ask: Any) -> None:
    manager = house.manager(max_loaded=2)
    a, b, c = (house.model(name) for name in "abc")
    await ask(manager, a, keep_alive=60)
    await ask(manager, b, keep_alive=30)
    assert names(manager) == ["a", "b"]
    await ask(manager, c)
    assert names(manager) == ["a", "c"]


async def test_room_is_made_by_the_shortest_keep_alive(house: Any, ask: Any) -> None:
    manager = house.manager(memory=380)
    for name, stay in (("a", -1), ("b", 500), ("c", 50)):
        await ask(manager, house.model(name, mib=100), keep_alive=stay)
    assert names(manager) == ["a", "b", "c"]
    await ask(manager, house.model("d", mib=100))
    assert names(manager) == ["a", "b", "d"]
    await ask(manager, house.model("e", mib=350))
    assert names(manager) == ["e"]


async def test_what_can_never_fit_evicts_nobody(house: Any, ask: Any) -> None:
    manager = house.manager(memory=300)
    await ask(manager, house.model("a", mib=100))
    with pytest.raises(DoesNotFit, match="requires more system memory"):
        await ask(manager, house.model("b", mib=500))
    assert names(manager) == ["a"]


async def test_a_busy_model_is_not_evicted_and_others_go_on(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager(memory=400)
    a, b, c = house.model("a", mib=100), house.model("b", mib=100), house.model("c", mib=200)
    await ask(manager, b)
    long = asyncio.create_task(ask(manager, a, "count 60 slow 0.01 say long", keep_alive=9))
    also = asyncio.create_task(ask(manager, b, "count 1000000 slow 0.01"))
    await until(lambda: [r.state for r in manager.resident()] == ["busy", "busy"])
    waiting = asyncio.create_task(ask(manager, c))
    await until(lambda: "draining" in [r.state for r in manager.resident()])
    victim = next(r.name for r in manager.resident() if r.state == "draining")
    assert victim == "a:latest"
    began = time.monotonic()
    assert await ask(manager, b, "count 1 say q") == "q:0 "
    assert time.monotonic() - began < 0.3
    assert not waiting.done()
    assert (await long).endswith("long:59 ")
    await waiting
    assert names(manager) == ["b", "c"]
    also.cancel()
    await asyncio.wait([also])


async def test_two_waiters_one_eviction(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager(memory=400)
    a = house.model("a", mib=200)
    busy = asyncio.create_task(ask(manager, a, "count 20 slow 0.01"))
    await until(lambda: names(manager) == ["a"])
    b, c = house.model("b", mib=150), house.model("c", mib=100)
    both = [asyncio.create_task(ask(manager, model)) for model in (b, c)]
    await asyncio.gather(busy, *both)
    assert set(names(manager)) >= {"c"}
    assert len(names(manager)) == 2


async def test_a_request_never_meets_a_leaving_model(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager()
    a = house.model("a", shutdown=0.3)
    async with manager.lease(a) as runner:
        first = runner.pid
    leaving = asyncio.create_task(manager.unload(a))
    await until(lambda: manager.resident()[0].state == "draining")
    async with manager.lease(a) as runner:
        assert runner.pid != first
        assert not psutil.pid_exists(first)
    assert await leaving


async def test_an_abandoned_eviction_lets_the_victim_live(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager(memory=300)
    a = house.model("a", mib=200)
    busy = asyncio.create_task(ask(manager, a, "count 40 slow 0.01"))
    await until(lambda: names(manager) == ["a"])
    waiting = asyncio.create_task(ask(manager, house.model("b", mib=200)))
    await until(lambda: manager.resident()[0].state == "draining")
    waiting.cancel()
    await asyncio.wait([waiting])
    await until(lambda: manager.resident()[0].state == "busy")
    assert await ask(manager, a, "count 1 say x") == "x:0 "
    await busy
    assert names(manager) == ["a"]


# -- queue, cancel --------------------------------------------------------------------------------------


async def test_the_queue_has_an_end(house: Any, ask: Any) -> None:
    manager = house.manager(max_queue=2)
    a, b = house.model("a", seconds=0.3), house.model("b")
    waiting = [asyncio.create_task(ask(manager, a)) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(Busy) as caught:
        await ask(manager, b)
    assert str(caught.value) == "server busy, please try again.  maximum pending requests exceeded"
    assert caught.value.retry_after
    await asyncio.gather(*waiting)
    assert await ask(manager, b)


async def test_one_model_has_no_endless_queue_inside(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(max_queue=3), house.model("a")
    options = LoadOptions(num_parallel=1)
    await ask(manager, model, options=options)
    tasks = [asyncio.create_task(ask(manager, model, "count 1000 slow 0.01", options=options)) for _ in range(4)]
    await until(lambda: manager.resident()[0].queued == 3)
    with pytest.raises(Busy):
        await ask(manager, model, options=options)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert await ask(manager, model, options=options)


async def test_waiting_ends_at_last(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager(memory=300, queue_timeout=0.2)
    busy = asyncio.create_task(ask(manager, house.model("a", mib=200), "count 1000000 slow 0.01"))
    await until(lambda: names(manager) == ["a"])
    with pytest.raises(Busy, match="queue timeout"):
        await ask(manager, house.model("b", mib=200))
    busy.cancel()
    await asyncio.wait([busy])


async def test_loading_is_not_waiting(house: Any, ask: Any) -> None:
    manager = house.manager(queue_timeout=0.2)
    assert await ask(manager, house.model("a", seconds=0.6))


async def test_one_who_leaves_costs_nobody_and_the_last_ends_the_load(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(), house.model("a", seconds=0.5)
    tasks = [asyncio.create_task(ask(manager, model)) for _ in range(3)]
    await until(lambda: manager.resident())
    tasks[0].cancel()
    assert await tasks[1] == await tasks[2] == "t:0 t:1 "
    slow = house.model("b", seconds=30, steps=3000)
    tasks = [asyncio.create_task(ask(manager, slow)) for _ in range(3)]
    await until(lambda: len(psutil.Process().children()) == 2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await until(lambda: len(psutil.Process().children()) == 1 and names(manager) == ["a"])


async def test_cancelled_while_queued_never_loads(house: Any, ask: Any, until: Any) -> None:
    manager = house.manager()
    first = asyncio.create_task(ask(manager, house.model("a", seconds=0.4)))
    await until(lambda: manager.resident())
    second = asyncio.create_task(ask(manager, house.model("b")))
    await asyncio.sleep(0.05)
    second.cancel()
    await first
    assert names(manager) == ["a"]
    assert house.detector.looks == 1


async def test_a_newcomer_during_an_abandoned_load_is_served(house: Any, ask: Any, until: Any) -> None:
    manager, model = house.manager(), house.model("a", seconds=0.4)
    first = asyncio.create_task(ask(manager, model))
    await until(lambda: manager.resident())
    first.cancel()
    await asyncio.sleep(0)
    assert await ask(manager, model, "count 1 say new") == "new:0 "


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
        await ask(manager, replace(model, weights_digest="../../escape", template="x"))
        assert [path.name for path in folder.parent.iterdir()] == [model.weights_digest]
