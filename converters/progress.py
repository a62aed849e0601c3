"""What a conversion tells while it works: JSON lines on standard output.

``{"status"}`` names the step, ``{"completed", "total"}`` counts bytes, ``{"result"}`` comes last, ``{"error"}``
instead of it when the conversion cannot be done.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

REPORT_EVERY_SECONDS = 0.1


def emit(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


class Progress:
    """At most ten lines a second, and the last one always; ``silent``: none."""

    def __init__(self, *, silent: bool = False) -> None:
        self._next = 0.0
        self._silent = silent

    def __call__(self, completed: int, total: int) -> None:
        if self._silent:
            return
        now = time.monotonic()
        if now >= self._next or completed == total:
            self._next = now + REPORT_EVERY_SECONDS
            emit(completed=completed, total=total)

    def step(self, status: str) -> None:
        if not self._silent:
            self._next = 0.0
            emit(status=status)
