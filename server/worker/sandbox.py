"""What a worker gives up before it opens a model file: core dumps, new privileges, life without its server."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

OOM_SCORE = Path("/proc/self/oom_score_adj")
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38


def enter() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C in a terminal is for the server, which then ends us
    if sys.platform != "linux":
        return
    with suppress(OSError):  # where memory runs out, a worker goes, which is loaded again, and not its server
        OOM_SCORE.write_text(str(min(int(OOM_SCORE.read_text()) + 500, 1000)))
    parent = os.getppid()
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:  # the server died before the signal was armed
        os._exit(0)
