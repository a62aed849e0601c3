"""Gives untouched KV pages back to the system (Linux, CPU).

libllama clears its KV buffer at start, which makes every page resident although most cells will never be used.
A private anonymous page that holds zeros only may be dropped: the kernel gives a zero page at the next touch.
So a large window for many sequences costs memory only as it fills.
"""

from __future__ import annotations

import ctypes
import sys
from types import TracebackType

import numpy as np

MADV_DONTNEED = 4
SMALLEST = 1 << 22
CHUNK = 1 << 26


class Watch:
    """Finds the large anonymous mappings that appear while it is open."""

    def __enter__(self) -> Watch:
        self._before = set(_mappings())
        self._after: set[tuple[int, int]] = set()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._after = set(_mappings())

    def release_zeros(self, kv_size: int) -> int:
        """Drops the pages of new mappings that can hold the KV buffer and are all zeros; bytes dropped."""
        dropped = 0
        for start, end in sorted(self._after - self._before):
            if kv_size >= SMALLEST and end - start >= kv_size:
                dropped += _drop_zero_chunks(start, end)
        return dropped


def _mappings() -> list[tuple[int, int]]:
    """(start, end) of private anonymous writable mappings; empty where there is no /proc."""
    if sys.platform != "linux":
        return []
    found: list[tuple[int, int]] = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split()
            if len(fields) == 5 and fields[1] == "rw-p":
                start, _, end = fields[0].partition("-")
                found.append((int(start, 16), int(end, 16)))
    return found


def _drop_zero_chunks(start: int, end: int) -> int:
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    dropped = 0
    for at in range(start, end, CHUNK):
        size = min(CHUNK, end - at)
        view = np.ctypeslib.as_array((ctypes.c_uint64 * (size // 8)).from_address(at))
        if not view.any() and madvise(at, size, MADV_DONTNEED) == 0:
            dropped += size
    return dropped
