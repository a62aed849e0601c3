"""Start, switch and memory: figures of processes rather than of requests."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.client import Client
from benchmark.prompts import Prompts
from benchmark.report import Result
from benchmark.rows import EIGHT, LIFECYCLE
from benchmark.scenarios import Figures, streams
from benchmark.servers import Server, llama_server, llamada


def start_ours(model: Path, log: Path, rounds: int) -> Figures:
    """From starting the process to the first token of a model that the store already has (warm file cache)."""
    prompts, times = Prompts(model), []
    with tempfile.TemporaryDirectory() as folder:
        with llamada([model], log, folder=Path(folder)):
            pass
        for _ in range(rounds):
            with llamada([], log, folder=Path(folder), name=model.stem) as server:
                answer = asyncio.run(server.client.ask(prompts.words(8), 1))
                times.append(answer.arrivals[0][0] - server.started)
    return {"start s": statistics.median(times)}


def start_peer(binary: Path, model: Path, log: Path, rounds: int) -> Figures:
    prompts, times = Prompts(model), []
    for _ in range(rounds):
        with llama_server(binary, model, EIGHT, log) as server:
            answer = asyncio.run(server.client.ask(prompts.words(8), 1))
            times.append(answer.arrivals[0][0] - server.started)
    return {"start s": statistics.median(times)}


def switch(small: Path, large: Path, log: Path, rounds: int) -> Figures:
    """In a running server that holds one model at a time: first token of the other one, beside its usual one."""
    prompts, times = Prompts(small), []
    with llamada([small, large], log, {"OLLAMA_MAX_LOADED_MODELS": "1"}) as server:
        for number in range(2 * rounds):
            model = (small, large)[number % 2]
            client = Client(server.client.host, server.client.port, "ollama", model.stem)
            first = asyncio.run(client.ask(prompts.words(8), 2)).ttft
            usual = asyncio.run(client.ask(prompts.words(8), 2)).ttft
            if model is large:
                times.append(first - usual)
            time.sleep(3)  # the spare worker is ready again
    return {"switch s": statistics.median(times)}


def resident(server: Server, prompts: Prompts) -> Figures:
    """Megabytes resident after rounds of 16 clients with long prompts."""
    for _ in range(2):
        asyncio.run(streams(server, prompts, 16, words=500))
    return {"resident MB": server.resident() / 1e6}


def results(binary: Path | None, small: Path, large: Path, log: Path, rounds: int) -> Iterator[Result]:
    start, change, memory = (Result(row) for row in LIFECYCLE.values())
    start.ours.append(start_ours(large, log, rounds))
    if binary is not None:
        start.peers[EIGHT] = [start_peer(binary, large, log, rounds)]
    yield start
    change.ours.append(switch(small, large, log, rounds))
    yield change
    with llamada([large], log) as server:
        memory.ours.append(resident(server, Prompts(large)))
    if binary is not None:
        with llama_server(binary, large, EIGHT, log) as server:
            memory.peers[EIGHT] = [resident(server, Prompts(large))]
    yield memory
