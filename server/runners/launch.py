"""The first code of a worker process: ties its life to the server's, then becomes the worker.

``python -P -m server.runners.launch <server's pid> <module> <arguments>``. A separate step, because code
between fork and exec is unsafe in a server that has threads. Stdlib only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import runpy
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def tie_to(parent: int) -> None:
    """Die with ``parent`` even when it is killed, gain no privileges, leave no core file."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:  # it died before the signal was asked for
        sys.exit(1)


def main(arguments: list[str]) -> None:
    parent, module, *rest = arguments
    tie_to(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the server's to handle
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
