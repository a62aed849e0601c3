"""Stops template code that runs too long or eats the memory, in whatever thread it runs.

A watcher thread looks at the CPU time of the rendering thread (so that a busy machine stops nobody) and at the
process's anonymous memory, and raises ``Stopped`` inside the rendering thread. A single long step inside C code
ends before it is stopped; the sandbox of ``modelfiles`` refuses those.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from server.errors import InvalidRequest

T = TypeVar("T")

CPU_SECONDS = 2.0
MAX_GROWTH = 1 << 30  # bytes of memory that one rendering may add
_LOOK_EVERY = 0.05
_STATM = Path("/proc/self/statm")


class Stopped(BaseException):
    """Raised by the watcher inside the watched thread; no template and no ``except Exception`` can catch it."""


class Budget:
    """The CPU seconds that all templates of one request may use together."""

    def __init__(self, seconds: float = CPU_SECONDS, growth: int = MAX_GROWTH) -> None:
        self._left = seconds
        self._growth = growth

    def run(self, function: Callable[[], T]) -> T:
        """``function()``, or ``InvalidRequest`` once the budget is spent."""
        if self._left <= 0:
            raise InvalidRequest("chat template failed: time limit")
        watch = _Watch(threading.get_ident(), self._left, self._growth)
        begun = time.thread_time()
        try:
            try:
                watch.start()
                return function()
            finally:
                watch.cancel()
        except Stopped:
            watch.cancel()  # it may have come in the middle of the first one
            raise InvalidRequest(f"chat template failed: {watch.reason}") from None
        except MemoryError:
            raise InvalidRequest("chat template failed: memory limit") from None
        finally:
            self._left -= time.thread_time() - begun


class _Watch:
    """One watched call. After ``cancel`` has returned, nothing is raised any more."""

    def __init__(self, thread: int, seconds: float, growth: int) -> None:
        self.reason = ""
        self._watched = thread
        self._clock = _cpu_clock(thread)
        self._end = self._clock() + seconds
        self._most = _anonymous_memory() + growth
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="template-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(_LOOK_EVERY):
            with self._lock:
                if self._done.is_set():
                    return
                self.reason = self._verdict()
                if self.reason:
                    _raise_in(self._watched, Stopped)
                    return

    def _verdict(self) -> str:
        if self._clock() >= self._end:
            return "time limit"
        return "memory limit" if _anonymous_memory() > self._most else ""

    def cancel(self) -> None:
        with self._lock:
            self._done.set()
            if self.reason:
                _raise_in(self._watched, None)  # takes back what was not raised yet


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind) if kind else None)


def _cpu_clock(thread: int) -> Callable[[], float]:
    """The CPU time of ``thread``; where the system has no such clock, the time of day."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def _anonymous_memory() -> int:
    """Bytes of this process that no file backs; 0 where the system does not tell."""
    try:
        _, resident, shared = map(int, _STATM.read_text().split()[:3])
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
