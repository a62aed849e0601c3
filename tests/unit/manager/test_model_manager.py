"""Loading, sharing, waiting, evicting and unloading, with the fake worker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from server.errors import Busy, DoesNotFit, RunnerError
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


async def test_a_worker_with_less_than_was_asked_for_is_not_loaded_again_and_again(house: Any) -> None:
    manager, model = house.manager(), house.model("a", num_ctx=100)
    pids = set()
    for _ in range(3):
        async with manager.lease(model, LoadOptions(num_ctx=2048)) as runner:
            pids.add(runner.pid)
    assert len(pids) == 1


async def test_a_worker_belongs_to_weights_and_adapters_whatever_the_template(house: Any, tmp_path: Path) -> None:
    manager, model = house.manager(), house.model("a")
    other_name = replace(model, name="b:latest", digest="b" * 64, parameters={"temperature": 0}, system="x")
    adapter = tmp_path / "adapter"
    adapter.write_text("{}")
    pids = []
    for spec in (model, other_name, replace(model, adapters=(adapter,)), replace(model, template="{{ .Prompt }}")):
        async with manager.lease(spec) as runner:
            pids.append(runner.pid)
    assert pids[0] == pids[1] == pids[3]
    assert len(set(pids)) == 2
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
