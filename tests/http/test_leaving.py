"""Clients that leave or stall, and a server that must leave: who is told what, and what is freed."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from server.api import admission, streaming
from server.types import Chunk, Final

ENDLESS = (Chunk("a"), 30.0, Chunk(final=Final("stop")))
PROMPT = json.dumps({"model": "nano", "prompt": "x"})


async def until(condition: Any, seconds: float = 2.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_closes_the_generation(client: Any, runner: Any, stream: bool) -> None:
    runner.chunks = ENDLESS
    body = json.dumps({"model": "nano", "prompt": "x", "stream": stream})
    request = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(request.encode())
    await until(lambda: runner.generations)
    await asyncio.sleep(0.05)
    assert runner.closed == 0
    writer.close()
    await until(lambda: runner.closed, 0.5)
    assert not client.app[admission.KEY].running


async def test_a_reader_that_stalls_is_cut_off(client: Any, runner: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming, "STALL_SECONDS", 0.2)
    runner.chunks = (Chunk("x" * 100_000),) * 1000
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", client.port))
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(PROMPT)}\r\n\r\n"
    await loop.sock_sendall(sock, (head + PROMPT).encode())
    await until(lambda: runner.closed)
    sock.close()


async def test_the_drain_lets_short_answers_finish_and_cuts_long_ones(client: Any, runner: Any) -> None:
    runner.chunks = (Chunk("a"), 0.2, Chunk("b"), Chunk(final=Final("stop")))
    short = asyncio.create_task(read(client, stream=True))
    await until(lambda: runner.generations)
    runner.chunks = ENDLESS
    long = asyncio.create_task(read(client, stream=True))
    whole = asyncio.create_task(read(client, stream=False))
    await until(lambda: len(runner.generations) == 3)
    await client.app[admission.KEY].drain(0.5, asyncio.Event())
    assert (await short)[1].count("\n") == 3
    status, text = await long
    assert (status, json.loads(text.splitlines()[-1])) == (200, {"error": admission.SHUTTING_DOWN})
    status, text = await whole
    assert (status, json.loads(text)) == (503, {"error": admission.SHUTTING_DOWN})
    assert runner.closed == 3


async def test_a_second_signal_ends_the_drain(client: Any, runner: Any) -> None:
    runner.chunks = ENDLESS
    task = asyncio.create_task(read(client, stream=True))
    await until(lambda: runner.generations)
    now = asyncio.Event()
    drain = asyncio.create_task(client.app[admission.KEY].drain(30, now))
    await asyncio.sleep(0.05)
    now.set()
    await asyncio.wait_for(drain, 1)
    assert admission.SHUTTING_DOWN in (await task)[1]


async def test_an_idle_server_drains_at_once(client: Any) -> None:
    await asyncio.wait_for(client.app[admission.KEY].drain(30, asyncio.Event()), 1)


async def read(client: Any, *, stream: bool) -> tuple[int, str]:
    body = json.dumps({"model": "nano", "prompt": "x", "stream": stream})
    async with client.post("/api/generate", data=body) as answer:
        return answer.status, await answer.text()


async def test_the_doorman_turns_away_what_is_too_much(client: Any) -> None:
    loop = asyncio.get_running_loop()
    inner = client.server.runner.server
    listening = await loop.create_server(lambda: admission.Doorman(inner, 2, 0), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    await until(lambda: len(inner.connections) == 2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert b" 503 " in await reader.readline()
    writer.close()
    held[0][1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " in await held[0][0].readline()
    for _, other in held:
        other.close()
    listening.close()
