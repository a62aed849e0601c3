"""A worker's process: started with an allow-listed environment, watched, stopped, its output kept for the log.

Knows nothing of models or of what is said over the socket. Its end is noticed at once (pidfd where there is
one) and reaped without any task. A worker ties its own life to ours (PR_SET_PDEATHSIG, and the end of its
socket); the kernel ties it to the thread that started it, so start it from one that lives as long as the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

logger = logging.getLogger(__name__)

WORKER_MODULE = "server.worker"
SPIN_THRESHOLD = 100 * 1000 * 1000
"""Weights larger than this want short spinning of OpenMP's threads: they lose nothing alone on the machine and
keep 1.6 times the speed beside one other busy process. Smaller models lose a tenth by it."""
TERM_GRACE = 1.0
KEPT_LINES = 20


def worker_environment(base: Mapping[str, str], *, short_spin: bool) -> dict[str, str]:
    """``base`` (already allow-listed by the configuration) and what every worker needs."""
    environment = {"GGML_NO_BACKTRACE": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **base}
    if short_spin:
        environment.setdefault("GOMP_SPINCOUNT", "500")
    ours = str(Path(__file__).resolve().parents[2])
    if ours not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (ours, base.get("PYTHONPATH"))))
    return environment


class WorkerProcess:
    """``exited`` is done with the return code as soon as the process has ended and been reaped."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket, output: int) -> None:
        loop = asyncio.get_running_loop()
        self.pid = process.pid
        self.exited: asyncio.Future[int] = loop.create_future()
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._socket: socket.socket | None = sock
        self._process = process
        self._output = output
        self._partial = b""
        self._loop = loop
        loop.add_reader(output, self._read_output)
        self._watch()

    @classmethod
    def spawn(cls, environment: Mapping[str, str], module: str = WORKER_MODULE) -> WorkerProcess:
        """Takes a few milliseconds; the worker imports while we go on. OSError."""
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                reader, writer = os.pipe()
                undo.callback(os.close, reader)
                try:
                    os.set_blocking(reader, False)
                    process = subprocess.Popen(
                        [sys.executable, "-P", "-m", module, "--fd", str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=writer,
                        stderr=writer,
                        env=dict(environment),
                        pass_fds=(theirs.fileno(),),
                    )
                finally:
                    os.close(writer)
            undo.pop_all()
        return cls(process, ours, reader)

    @property
    def running(self) -> bool:
        return not self.exited.done()

    def take_socket(self) -> socket.socket:
        """Our end of the channel; from now on the caller's to close."""
        if self._socket is None:
            raise RuntimeError("the socket of this worker is taken")
        sock, self._socket = self._socket, None
        return sock

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    async def stop(self, grace: float = TERM_GRACE) -> int:
        """Ask, then insist; returns once the process is gone."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self.exited), grace)
        self.kill()
        return await asyncio.shield(self.exited)

    def how_it_ended(self) -> str:
        code = self.exited.result()
        if code >= 0:
            return f"exit status {code}"
        name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
        hint = ", perhaps because the machine ran out of memory" if code == -signal.SIGKILL else ""
        return f"signal {-code} ({name}){hint}"

    # -- watching ---------------------------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or an old or a locked-down one
            threading.Thread(target=self._wait_in_thread, name=f"wait-{self.pid}", daemon=True).start()
        else:
            self._loop.add_reader(fd, self._ended, fd)

    def _wait_in_thread(self) -> None:
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._ended, -1)

    def _ended(self, pidfd: int) -> None:
        if pidfd >= 0:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        code = self._process.wait()
        self._read_output()  # what it said last
        self._close_output()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.exited.set_result(code)

    def _read_output(self) -> None:
        if self._output < 0:
            return
        try:
            data = os.read(self._output, 65536)
        except BlockingIOError:
            return
        if not data:
            self._close_output()
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[-8192:]
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            self.lines.append(text)
            logger.debug("worker %d: %s", self.pid, text)

    def _close_output(self) -> None:
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1
