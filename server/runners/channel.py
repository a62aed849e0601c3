"""The server's end of the wire to a worker: frames of ``server.messages`` over a stream socket.

Reading is a protocol callback that hands every record on at once: no task, no queue, no copy of a frame that
arrived whole. Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

from server.messages import MAX_FRAME, Record, decode, encode

LENGTH = struct.Struct("<I")


class Channel(asyncio.Protocol):
    """``on_record`` is called for each record, ``on_lost`` once: None = the other end closed."""

    def __init__(self, on_record: Callable[[Record], None], on_lost: Callable[[Exception | None], None]) -> None:
        self._on_record = on_record
        self._on_lost = on_lost
        self._pending = bytearray()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._error: Exception | None = None

    @classmethod
    async def connect(
        cls, sock: socket.socket, on_record: Callable[[Record], None], on_lost: Callable[[Exception | None], None]
    ) -> Channel:
        """Takes over ``sock``."""
        loop = asyncio.get_running_loop()
        try:
            sock.setblocking(False)
            _, channel = await loop.create_unix_connection(lambda: cls(on_record, on_lost), sock=sock)
        except BaseException:
            sock.close()
            raise
        return channel

    # -- writing ----------------------------------------------------------------------------------------

    def post(self, record: Record) -> None:
        """Write without waiting: for small records that must not be held up."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(record))

    async def send(self, record: Record) -> None:
        """Write once the other end keeps up. After the connection is lost, nothing happens."""
        await self._writable.wait()
        self.post(record)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's callbacks ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio.Transport in all but their class.
        self._transport = cast(asyncio.Transport, transport)
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        self._on_lost(self._error or error)

    def data_received(self, data: bytes) -> None:
        if self._pending:
            self._pending += data
            used = self._read(self._pending)
            if self._error is None:
                del self._pending[:used]
        else:
            used = self._read(data)
            if used < len(data) and self._error is None:
                self._pending += memoryview(data)[used:]

    def _read(self, data: bytes | bytearray) -> int:
        """Hand on every whole frame in ``data``; how many bytes they were."""
        at, end = 0, len(data)
        with memoryview(data) as view:
            while end - at >= LENGTH.size and self._error is None:
                (total,) = LENGTH.unpack_from(data, at)
                if total > MAX_FRAME:
                    self._fail(f"a frame of {total} bytes is over the limit of {MAX_FRAME}")
                    break
                following = at + LENGTH.size + total
                if following > end:
                    break
                self._hand_on(view[at + LENGTH.size : following])
                at = following
        return at

    def _hand_on(self, frame: memoryview) -> None:
        try:
            record = decode(frame)
        except (ValueError, AttributeError, RecursionError) as error:  # the worker is not trusted
            self._fail(str(error))
        else:
            self._on_record(record)

    def _fail(self, reason: str) -> None:
        self._error = ValueError(reason)
        self.close()
