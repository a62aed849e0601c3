"""Who may come in, and when everybody must leave: connection counts and the drain at shutdown.

While draining, new work is refused with 503; when the time is up every request still running is cut short and
answered with an error of its own. A second signal makes the time up at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from aiohttp import web

from server.errors import Busy

SHUTTING_DOWN = "the server is shutting down"


class Admission:
    """``running`` are the handler tasks that hold work; cheap look-ups (tags, ps, version) are not counted."""

    def __init__(self) -> None:
        self.draining = False
        self.time_is_up = False
        self.running: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        if self.draining:
            raise Busy(SHUTTING_DOWN)
        task = _this_task()
        self.running.add(task)
        self._idle.clear()
        try:
            yield
        finally:
            self.running.discard(task)
            if not self.running:
                self._idle.set()

    async def drain(self, seconds: float, now: asyncio.Event) -> None:
        """Returns when no work is left: finished by itself, or cut short after ``seconds`` or at ``now``."""
        self.draining = True
        waits = [asyncio.ensure_future(self._idle.wait()), asyncio.ensure_future(now.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self.time_is_up = True
        for task in self.running:
            task.cancel()
        await asyncio.wait([asyncio.ensure_future(self._idle.wait())], timeout=5)


KEY = web.AppKey("admission", Admission)


def cut_short(request: web.Request, error: BaseException) -> bool:
    """Whether a cancellation is the end of the drain (then it is taken back, so that an answer can be sent)."""
    if not isinstance(error, asyncio.CancelledError) or not request.app[KEY].time_is_up:
        return False
    if request.transport is None or request.transport.is_closing():
        return False
    _this_task().uncancel()
    return True


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a request runs in a task")
    return task


class Doorman(asyncio.Protocol):
    """The first protocol of a connection: hands it to the server, or turns it away when the house is full.

    ``per_address`` does not count loopback: a proxy or a benchmark on this machine is one address.
    """

    def __init__(self, server: web.Server, total: int, per_address: int) -> None:
        self._server = server
        self._total = total
        self._per_address = per_address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        if not self._has_room(_address(stream)):
            _refuse(stream)
            return
        protocol = self._server()
        stream.set_protocol(protocol)
        protocol.connection_made(stream)

    def _has_room(self, address: str) -> bool:
        present = self._server.connections
        if self._total and len(present) >= self._total:
            return False
        if not self._per_address or _is_local(address):
            return True
        return sum(_address(other.transport) == address for other in present) < self._per_address


def _address(transport: asyncio.BaseTransport | None) -> str:
    peer = transport.get_extra_info("peername") if transport else None
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _is_local(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return not address


def _refuse(transport: asyncio.Transport) -> None:
    body = b'{"error":"too many connections, please try again"}'
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    transport.write(head.encode() + b"Retry-After: 1\r\nConnection: close\r\n\r\n" + body)
    transport.close()
