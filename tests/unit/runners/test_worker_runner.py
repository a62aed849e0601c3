"""The server's handle on a worker process, against the fake worker."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from server.errors import DoesNotFit, RunnerDied, RunnerError
from server.messages import Load
from server.runners.process import WorkerProcess, worker_environment
from server.runners.worker import DIED, STALLED, WorkerRunner
from server.types import ChatPrompt, Generation, LoadOptions, Message, TextPrompt

TESTS = Path(__file__).resolve().parents[2]
BASE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS)}


def spawn() -> WorkerProcess:
    return WorkerProcess.spawn(worker_environment(BASE, short_spin=False), "fake_worker")


def weights(folder: Path, text: str = "{}") -> str:
    path = folder / "model.json"
    path.write_text(text)
    return str(path)


async def start(folder: Path, behaviour: str = "{}", **options: object) -> WorkerRunner:
    load = Load(weights=weights(folder, behaviour), options=LoadOptions())
    return await WorkerRunner.start(load, process=spawn(), **options)  # type: ignore[arg-type]


def prompt(text: str) -> Generation:
    return Generation(TextPrompt(text, raw=True))


async def answer(runner: WorkerRunner, text: str) -> str:
    async with aclosing(runner.generate(prompt(text))) as chunks:
        return "".join([chunk.content async for chunk in chunks])


async def until_idle(runner: WorkerRunner) -> float:
    """Seconds until nothing runs in the worker."""
    began = time.monotonic()
    for _ in range(100):
        if not (await runner.ping()).running:
            break
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def collect(runner: WorkerRunner, text: str, into: list[str]) -> None:
    async for chunk in runner.generate(prompt(text)):
        into.append(chunk.content)


async def test_it_loads_generates_and_leaves(tmp_path: Path) -> None:
    progress: list[float] = []
    runner = await start(tmp_path, '{"steps": 4}', on_progress=progress.append)
    assert progress == [0.25, 0.5, 0.75, 1.0]
    assert runner.alive
    assert runner.loaded.num_ctx == 4096
    assert await answer(runner, "count 3 say x") == "x:0 x:1 x:2 "
    assert await runner.tokenize("hola") == (104, 111, 108, 97)
    assert await runner.detokenize([104, 105]) == "hi"
    embeddings = await runner.embed(["a", "bcd"])
    assert (embeddings.count, embeddings.width, len(embeddings.vectors)) == (2, 4, 32)
    assert (await runner.ping()).slots == 4
    await runner.close()
    assert not psutil.pid_exists(runner.pid)
    with pytest.raises(RunnerDied):
        await runner.tokenize("after")


async def test_chat_prompts_with_images_cross(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    message = Message("user", "count 2 say im", images=(os.urandom(3_000_000), b"x"))
    chunks = [c async for c in runner.generate(Generation(ChatPrompt((message,))))]
    assert [c.content for c in chunks] == ["im:0 ", "im:1 ", ""]
    assert chunks[-1].final is not None
    await runner.close()


async def test_no_token_is_lost_or_mixed_between_streams(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    texts = await asyncio.gather(*(answer(runner, f"count {n * 7} say w{n}") for n in range(1, 17)))
    for n, text in enumerate(texts, 1):
        assert text == "".join(f"w{n}:{i} " for i in range(n * 7))
    await runner.close()


async def test_leaving_early_aborts(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    async with aclosing(runner.generate(prompt("count 1000000 slow 0.01"))) as chunks:
        async for _ in chunks:
            break
    assert await until_idle(runner) < 0.5
    await runner.close()


async def test_a_cancelled_reader_aborts_within_half_a_second(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    task = asyncio.create_task(answer(runner, "count 1000000 slow 0.01"))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])
    assert await until_idle(runner) < 0.5
    await runner.close()


async def test_one_request_fails_and_the_others_live(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    good = asyncio.create_task(answer(runner, "count 20 slow 0.005 say good"))
    with pytest.raises(RunnerError, match="request of bad failed") as caught:
        await answer(runner, "error 2 say bad")
    assert not isinstance(caught.value, RunnerDied)
    assert (await good).endswith("good:19 ")
    await runner.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_a_death_is_one_error_for_each_open_request(tmp_path: Path, number: signal.Signals) -> None:
    deaths: list[float] = []
    runner = await start(tmp_path, on_death=lambda: deaths.append(time.monotonic()))
    tasks = [asyncio.create_task(answer(runner, "count 1000000 slow 0.01")) for _ in range(8)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    os.kill(runner.pid, number)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert deaths[0] - began < 0.25
    assert len(deaths) == 1
    assert all(type(r) is RunnerDied and str(r) == DIED for r in results)
    assert len({id(r) for r in results}) == 8
    assert not runner.alive
    with pytest.raises(RunnerDied):
        await answer(runner, "count 1")
    await runner.close()
    assert len(deaths) == 1


async def test_chunks_before_the_death_arrive(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    seen: list[str] = []
    with pytest.raises(RunnerDied):
        await collect(runner, "count 10 crash 4 say t", seen)
    assert seen == ["t:0 ", "t:1 ", "t:2 ", "t:3 "]
    await runner.close()


async def test_an_embedding_that_crashes(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    with pytest.raises(RunnerDied):
        await runner.embed(["crash"])
    await runner.close()


async def test_an_idle_death_is_noticed(tmp_path: Path) -> None:
    died = asyncio.Event()
    runner = await start(tmp_path, on_death=died.set)
    os.kill(runner.pid, signal.SIGKILL)
    await asyncio.wait_for(died.wait(), 0.25)
    await runner.close()


@pytest.mark.parametrize("how", ["hang", "stop"])
async def test_a_hung_worker_is_killed(tmp_path: Path, how: str) -> None:
    runner = await start(tmp_path, hang_timeout=0.4)
    task = asyncio.create_task(answer(runner, "count 1000000 slow 0.01" + (" hang 5" if how == "hang" else "")))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    if how == "stop":
        os.kill(runner.pid, signal.SIGSTOP)
    with pytest.raises(RunnerDied):
        await task
    assert time.monotonic() - began < 1.5
    await runner.close()
    assert not psutil.pid_exists(runner.pid)


async def test_an_idle_hung_worker_is_found(tmp_path: Path) -> None:
    died = asyncio.Event()
    runner = await start(tmp_path, hang_timeout=0.2, on_death=died.set)
    os.kill(runner.pid, signal.SIGSTOP)
    await asyncio.wait_for(died.wait(), 2)
    await runner.close()


async def test_slow_is_not_hung(tmp_path: Path) -> None:
    runner = await start(tmp_path, hang_timeout=0.6)
    assert await answer(runner, "count 3 slow 0.3 say s") == "s:0 s:1 s:2 "
    await runner.close()


async def test_a_load_without_progress_ends(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=STALLED):
        await start(tmp_path, '{"stall": true}', stall_timeout=0.5)
    assert not psutil.Process().children()


async def test_progress_extends_the_load(tmp_path: Path) -> None:
    runner = await start(tmp_path, '{"seconds": 1.2, "steps": 12}', stall_timeout=0.6)
    await runner.close()


@pytest.mark.parametrize(("kind", "error"), [("memory", DoesNotFit), ("model", RunnerError)])
async def test_a_load_that_fails(tmp_path: Path, kind: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"could not be loaded: {kind}"):
        await start(tmp_path, f'{{"fail": "{kind}"}}')
    assert not psutil.Process().children()


async def test_a_crash_while_loading(tmp_path: Path) -> None:
    with pytest.raises(RunnerDied, match=r"terminated: signal 9 \(SIGKILL\)"):
        await start(tmp_path, '{"crash": true}')


async def test_a_worker_that_cannot_even_start(tmp_path: Path) -> None:
    process = WorkerProcess.spawn(worker_environment(BASE, short_spin=False), "no_such_module")
    with pytest.raises(RunnerDied, match="exit status 1"):
        await WorkerRunner.start(Load(weights(tmp_path), LoadOptions()), process=process)
    assert any("no_such_module" in line for line in process.lines)


async def test_cancelling_a_load_leaves_no_process(tmp_path: Path) -> None:
    task = asyncio.create_task(start(tmp_path, '{"seconds": 30, "steps": 300}'))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.Process().children()


async def test_closing_ends_open_requests(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    task = asyncio.create_task(answer(runner, "count 1000000 slow 0.01"))
    await asyncio.sleep(0.05)
    await asyncio.gather(runner.close(), runner.close())
    with pytest.raises(RunnerDied):
        await task


async def test_a_worker_that_sends_rubbish_is_dropped(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    task = asyncio.create_task(answer(runner, "count 1000000 slow 0.01"))
    await asyncio.sleep(0.05)
    assert runner._channel is not None
    runner._channel.data_received(b"\x05\0\0\0\xff\xff\xff\xff!")
    with pytest.raises(RunnerDied):
        await task
    await runner.close()


async def test_the_worker_sees_only_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    process = spawn()
    try:
        child = psutil.Process(process.pid)
        await asyncio.sleep(0.2)
        names = set(child.environ())
    finally:
        await process.stop()
    assert "OPENAI_API_KEY" not in names
    assert {"GGML_NO_BACKTRACE", "HF_HUB_OFFLINE", "PATH"} <= names


def test_spinning_is_short_for_large_models_only_and_the_users_choice_stands() -> None:
    assert worker_environment({}, short_spin=True)["GOMP_SPINCOUNT"] == "500"
    assert "GOMP_SPINCOUNT" not in worker_environment({}, short_spin=False)
    assert worker_environment({"GOMP_SPINCOUNT": "7"}, short_spin=True)["GOMP_SPINCOUNT"] == "7"


async def test_twenty_lives_leave_nothing_behind(tmp_path: Path) -> None:
    runner = await start(tmp_path)
    await runner.close()
    gc.collect()
    me = psutil.Process()
    before = (me.num_fds(), me.num_threads(), len(asyncio.all_tasks()))
    for turn in range(20):
        runner = await start(tmp_path)
        if turn % 2:
            await answer(runner, "count 2")
            await runner.close()
        else:
            os.kill(runner.pid, signal.SIGKILL)
            with pytest.raises(RunnerDied):
                await answer(runner, "count 2 slow 0.5")
            await runner.close()
    await asyncio.sleep(0.05)
    assert not me.children()
    assert (me.num_fds(), me.num_threads(), len(asyncio.all_tasks())) == before
