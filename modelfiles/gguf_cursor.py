"""Reads a file front to back through a small window, and never past its end.

The fast part is ``skip_strings``: a vocabulary is hundreds of thousands of length-prefixed strings, and a Python loop
over them would cost more than everything else. A regular expression that knows every short length walks them in C.
"""

from __future__ import annotations

import re
import struct
from functools import cache
from typing import BinaryIO

from modelfiles.errors import GGUFError

WINDOW = 2**20
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
SHORT = 64  # longest string the pattern knows
RUN = 256  # strings per match
ATOM = SHORT + U64.size


def shown(name: str) -> str:
    """A name from a file, fit for one line of an error."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


class Cursor:
    """``size`` is the real size of the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file
        self._window = b""
        self._base = 0  # where in the file the window begins
        self._at = 0  # where in the window we are

    def tell(self) -> int:
        return self._base + self._at

    def take(self, count: int) -> bytes:
        self._need(count)
        start, self._at = self._at, self._at + count
        return self._window[start : self._at]

    def skip(self, count: int) -> None:
        if count > self.size - self.tell():
            raise GGUFError("the file is cut short")
        self._at += count
        if self._at > len(self._window):
            self._base += self._at
            self._file.seek(self._base)
            self._window, self._at = b"", 0

    def u32(self) -> int:
        value: int = U32.unpack(self.take(4))[0]
        return value

    def u64(self) -> int:
        value: int = U64.unpack(self.take(8))[0]
        return value

    def number(self, code: str) -> int | float | bool:
        layout = struct.Struct("<" + code)
        value: int | float | bool = layout.unpack(self.take(layout.size))[0]
        return value

    def string(self, limit: int, what: str) -> bytes:
        length = self.u64()
        if length > limit:
            raise GGUFError(f"{what} is {length} bytes long; the limit is {limit}")
        return self.take(length)

    def name(self, limit: int, what: str) -> str:
        """A string that names something: not empty, UTF-8, without NUL."""
        try:
            text = self.string(limit, what).decode()
        except UnicodeDecodeError:
            raise GGUFError(f"{what} is not UTF-8") from None
        if not text or "\0" in text:
            raise GGUFError(f"{what} is empty or holds a NUL")
        return text

    def skip_strings(self, count: int, limit: int, what: str) -> None:
        if count * U64.size > self.size - self.tell():
            raise GGUFError("the file is cut short")
        pattern = _run_of_short_strings()
        while count:
            if count >= RUN:
                if len(self._window) - self._at < RUN * ATOM:
                    self._refill()
                found = pattern.match(self._window, self._at)
                if found:
                    self._at = found.end()
                    count -= RUN
                    continue
            for _ in range(min(count, RUN)):
                length = self.u64()
                if length > limit:
                    raise GGUFError(f"{what} has a string of {length} bytes; the limit is {limit}")
                self.skip(length)
            count -= min(count, RUN)

    def _need(self, count: int) -> None:
        if count <= len(self._window) - self._at:
            return
        if count > self.size - self.tell():
            raise GGUFError("the file is cut short")
        self._refill(count)
        if count > len(self._window):
            raise GGUFError("the file has become shorter while it was read")

    def _refill(self, count: int = 0) -> None:
        rest = self._window[self._at :]
        self._base, self._at = self._base + self._at, 0
        wanted = max(count, WINDOW) - len(rest)
        pieces = [rest]
        while wanted > 0:
            piece = self._file.read(wanted)
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        self._window = b"".join(pieces)


@cache
def _run_of_short_strings() -> re.Pattern[bytes]:
    by_length = (re.escape(bytes([n])) + b"\\0{7}.{%d}" % n for n in range(SHORT + 1))
    return re.compile(b"(?s:(?:" + b"|".join(by_length) + b"){%d}+)" % RUN)


def split_strings(raw: bytes, count: int) -> list[bytes]:
    """The ``count`` strings that ``raw`` is made of."""
    texts = []
    at = 0
    try:
        for _ in range(count):
            (length,) = U64.unpack_from(raw, at)
            at += 8 + length
            texts.append(raw[at - length : at])
    except struct.error:
        at = -1
    if at != len(raw):
        raise GGUFError("the file has changed since its header was read")
    return texts
