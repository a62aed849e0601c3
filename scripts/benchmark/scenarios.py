"""What users do to a server, as measured runs. Every scenario takes a server and returns named figures."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import statistics
import time
import urllib.request

from benchmark.client import Answer
from benchmark.prompts import Prompts
from benchmark.servers import Server, settle, unload

Figures = dict[str, float]


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


SETTLED = 4.0
"""Seconds after the first answer, for what a server still makes behind it (ours: the full context)."""


async def warm(server: Server, prompts: Prompts) -> None:
    await server.client.ask(prompts.words(8), 4)
    await asyncio.sleep(SETTLED)


async def streams(server: Server, prompts: Prompts, count: int, predict: int = 64, words: int = 16) -> Figures:
    """``count`` clients at once, short prompts: all tokens by the time from first request to last token."""
    begun = time.perf_counter()
    answers = await asyncio.gather(*(server.client.ask(prompts.words(words), predict) for _ in range(count)))
    wall = time.perf_counter() - begun
    tokens = sum(a.tokens for a in answers)
    return {"tok/s": answers[0].rate if count == 1 else tokens / wall}


async def overhead(server: Server, prompts: Prompts) -> Figures:
    """Processor time outside libllama per token at 16 streams: the server's process and the engine's host part."""
    await asyncio.sleep(1.2)  # until the engine's counters of what came before were read
    before = (server.cpu(), *_engine(server))
    answers = await asyncio.gather(*(server.client.ask(prompts.words(16), 128) for _ in range(16)))
    tokens = sum(a.tokens for a in answers)
    await asyncio.sleep(1.2)
    cpu, host, counted = (after - then for after, then in zip((server.cpu(), *_engine(server)), before, strict=True))
    return {"server µs/token": 1e6 * cpu / tokens, "worker µs/token": 1e6 * host / max(counted, 1)}


def _engine(server: Server) -> tuple[float, float]:
    """(seconds of the engine outside forward passes, tokens) since the load."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.client.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()

    def value(name: str) -> float:
        return float(re.findall(rf"^llamada_{name}\{{.*?\}} (\S+)$", text, re.MULTILINE)[0])

    return value("engine_host_seconds"), value("engine_tokens")


async def long_contexts(server: Server, prompts: Prompts, count: int = 16, words: int = 1000) -> Figures:
    """``count`` clients whose contexts are already computed, then 48 tokens each."""
    texts = [prompts.words(words) for _ in range(count)]
    await asyncio.gather(*(server.client.ask(text, 2) for text in texts))
    await settle()
    answers = await asyncio.gather(*(server.client.ask(text, 48) for text in texts))
    first = max(a.arrivals[0][0] for a in answers)
    last = min(a.arrivals[-1][0] for a in answers)
    shared = sum(n for a in answers for t, n in a.arrivals if first < t <= last)
    return {"tok/s": shared / (last - first)}


async def ttft(server: Server, prompts: Prompts, rounds: int = 3) -> Figures:
    """512 tokens: new, again, and with 16 more."""
    cold, again, longer = [], [], []
    for _ in range(rounds):
        text = prompts.words(512)
        cold.append((await server.client.ask(text, 2)).ttft)
        again.append((await server.client.ask(text, 2)).ttft)
        longer.append((await server.client.ask(text + prompts.words(16), 2)).ttft)
        await settle()
    return {
        "cold ms": 1e3 * statistics.median(cold),
        "repeated ms": 1e3 * statistics.median(again),
        "+16 ms": 1e3 * statistics.median(longer),
    }


async def together(server: Server, prompts: Prompts, count: int) -> Figures:
    """``count`` requests at once with one shared 512-token prefix: new, then seen before."""
    figures: Figures = {}
    prefix = prompts.words(512)
    for name in ("new", "seen"):
        begun = time.perf_counter()
        asked = (server.client.ask(prefix + prompts.words(16), 16) for _ in range(count))
        answers = await asyncio.gather(*asked)
        figures[f"{name} wall s"] = time.perf_counter() - begun
        figures[f"{name} ttft p50 s"] = statistics.median(a.ttft for a in answers)
        await settle()
    return figures


async def intrusion(server: Server, prompts: Prompts) -> Figures:
    """An 1800-token prompt arrives while one stream runs."""
    started = asyncio.Event()
    stream = asyncio.create_task(server.client.ask(prompts.words(16), 400, started=started))
    await started.wait()
    late = await server.client.ask(prompts.words(1800), 2)
    answer = await stream
    return {"worst gap s": max(answer.gaps), "late ttft s": late.ttft}


async def crowd(server: Server, prompts: Prompts, seconds: float = 60, clients: int = 12) -> Figures:
    """A closed loop over one shared system prompt, with a 1500-token stranger every 10 s."""
    system = prompts.words(512)
    end = time.perf_counter() + seconds
    answers: list[Answer] = []

    async def client(number: int) -> None:
        own = 20 + number * 60 // max(clients - 1, 1)
        while time.perf_counter() < end:
            answers.append(await server.client.ask(system + prompts.words(own), 40))

    async def stranger(delay: float) -> None:
        await asyncio.sleep(delay)
        answers.append(await server.client.ask(prompts.words(1500), 8))

    begun = time.perf_counter()
    strangers = (stranger(delay) for delay in range(0, int(seconds) - 1, 10))
    await asyncio.gather(*(client(i) for i in range(clients)), *strangers)
    tokens = sum(n for a in answers for t, n in a.arrivals if t <= end)
    return {
        "tok/s": tokens / (end - begun),
        "ttft p95 s": percentile([a.ttft for a in answers], 0.95),
        "gap p95 ms": 1e3 * percentile([g for a in answers for g in a.gaps], 0.95),
    }


def _spin() -> None:
    while True:
        pass


async def busy_neighbour(server: Server, prompts: Prompts) -> Figures:
    """One stream while another process keeps one core busy."""
    neighbour = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    neighbour.start()
    try:
        await asyncio.sleep(1.0)
        return {"tok/s": (await server.client.ask(prompts.words(16), 64)).rate}
    finally:
        neighbour.kill()
        neighbour.join()


async def beside_cache(server: Server, prompts: Prompts) -> Figures:
    """One stream after 14 other prompts of 1000 tokens were left in the cache, by one on an empty cache."""
    cold = (await streams(server, prompts, 1))["tok/s"]
    for _ in range(14):
        await server.client.ask(prompts.words(1000), 2)
    await settle()
    warm_rate = (await streams(server, prompts, 1))["tok/s"]
    return {"cold tok/s": cold, "warm tok/s": warm_rate}


async def reload(server: Server, prompts: Prompts) -> Figures:
    """The same prompt after unload and load: what it costs beside the cold one, load time apart."""
    text = prompts.words(512)
    cold = (await server.client.ask(text, 2)).ttft
    unload(server)
    await server.client.ask(prompts.words(4), 2)  # loads
    return {"cold ms": 1e3 * cold, "after reload ms": 1e3 * (await server.client.ask(text, 2)).ttft}


async def listing(server: Server, prompts: Prompts) -> Figures:
    """/api/tags and /api/ps while 16 streams run."""
    runs = [asyncio.create_task(server.client.ask(prompts.words(16), 96)) for _ in range(16)]
    times: list[float] = []
    while not all(run.done() for run in runs):
        for path in ("/api/tags", "/api/ps"):
            times.append(await asyncio.to_thread(_get, server.client.port, path))
        await asyncio.sleep(0.02)
    await asyncio.gather(*runs)
    return {"p50 ms": 1e3 * percentile(times, 0.5), "p99 ms": 1e3 * percentile(times, 0.99)}


def _get(port: int, path: str) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        json.load(answer)
    return time.perf_counter() - begun
