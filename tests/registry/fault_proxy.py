"""A proxy in front of a registry that breaks things on purpose, byte by byte: one `Fault` per request that it meets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

PIECE = 16 * 1024


@dataclass
class Fault:
    """``kind``: cut, reset, stall, drip, late, status, range, whole, twice, loop. ``at``: bytes of the body before."""

    kind: str
    at: int = 0
    path: str = "/blobs/sha256"
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class FaultProxy:
    """``faults`` are used up in order by the requests whose path holds theirs; ``always`` is for all the others.

    ``routes``: beginnings of paths that another server answers.
    """

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    routes: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    sent: int = 0
    address: str = ""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FaultProxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await asyncio.sleep(0)  # the sockets close in the loop's next turn

    def _fault(self, path: str) -> Fault | None:
        for number, fault in enumerate(self.faults):
            if fault.path in path:
                return self.faults.pop(number)
        return self.always if self.always and self.always.path in path else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        try:
            await self._answer(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # a peer that no longer reads would keep it open
            raise
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            self.requests.append(head.split("\r\n", 1)[0])
            self.heads.append(head)
            fault = self._fault(path)
            if fault is not None and await self._instead(fault, path, writer):
                pass
            else:
                await self._forward(head, path, fault, reader, writer)

    async def _instead(self, fault: Fault, path: str, writer: asyncio.StreamWriter) -> bool:
        """What needs no answer of the registry."""
        if fault.kind == "late":
            await asyncio.sleep(fault.seconds)
        headers = dict(fault.headers)
        if fault.kind == "loop":
            headers, fault.status = {"Location": f"{path}&again" if "?" in path else f"{path}?again"}, 307
        if fault.kind in ("status", "loop"):
            lines = [f"HTTP/1.1 {fault.status} Fault", "Content-Length: 5", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join([*lines, "", "fault"]).encode())
            await writer.drain()
            return True
        return False

    async def _forward(
        self,
        head: str,
        path: str,
        fault: Fault | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        place = next((to for start, to in self.routes.items() if path.startswith(start)), self.upstream)
        host, _, port = place.partition(":")
        their_reader, their_writer = await asyncio.open_connection(host, int(port))
        head = re.sub(r"(?i)\r\nconnection:[^\r]*", "", head).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
        if fault is not None and fault.kind == "whole":
            head = re.sub(r"(?i)\r\nrange:[^\r]*", "", head)
        their_writer.write(head.encode("latin-1"))
        up = asyncio.create_task(_pump(reader, their_writer))
        try:
            answer = (await their_reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            while answer.startswith("HTTP/1.1 100"):
                answer = (await their_reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            if fault is not None and fault.kind == "range":
                answer = re.sub(r"(?i)(content-range: bytes )\d+", r"\g<1>7", answer)
            writer.write(answer.encode("latin-1"))
            await self._body(fault, their_reader, writer, "/blobs/sha256" in path)
        finally:
            their_writer.transport.abort()  # at once: the wait below may be cancelled; nothing of it is wanted any more
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)

    async def _body(
        self, fault: Fault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: bool
    ) -> None:
        passed, kind = 0, fault.kind if fault else ""
        while data := await reader.read(PIECE):
            if fault and kind in ("cut", "reset", "stall", "twice") and passed + len(data) > fault.at:
                data = data[: max(0, fault.at - passed)]
            writer.write(data)
            await writer.drain()
            passed += len(data)
            self.sent += len(data) if count else 0
            if fault and kind == "drip":
                await asyncio.sleep(fault.seconds)
            if fault and kind in ("cut", "reset", "stall", "twice") and passed >= fault.at:
                break
        if kind == "twice":
            writer.write(data)
        if kind == "reset" and writer.transport:
            writer.transport.abort()
        if kind == "stall":
            await asyncio.sleep(3600)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
