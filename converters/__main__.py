"""``python -m converters <verb> --in PATH --out PATH``: one conversion in a process of its own.

Prints JSON lines: ``{"completed", "total"}`` while it works, ``{"error"}`` (exit status 1) when it cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from converters.errors import ConverterError

REPORT_EVERY_SECONDS = 0.1


def emit(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


class Progress:
    """At most ten lines a second, and the last one always."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, completed: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next or completed == total:
            self._next = now + REPORT_EVERY_SECONDS
            emit(completed=completed, total=total)


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m converters")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    quantize = verbs.add_parser("quantize", help="write a GGUF with other tensor types (or as it is: --type copy)")
    quantize.add_argument("--in", dest="source", type=Path, required=True, metavar="PATH", help="a GGUF")
    quantize.add_argument("--out", type=Path, required=True, metavar="PATH", help="the GGUF to write; must not exist")
    quantize.add_argument("--type", required=True, help="q8_0, q4_K_M … or copy")
    quantize.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    quantize.add_argument("--nice", type=int, default=0, metavar="N", help="give way to other processes: 0 to 19")
    return parser.parse_args(given)


def main(given: list[str]) -> int:
    options = arguments(given)
    # A file that takes libllama down must not leave the weights behind as a core dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(options.nice)
    try:
        from converters.gguf.quantize import quantize  # libllama is loaded only when there is work for it

        quantize(options.source, options.out, options.type, Progress(), options.threads)
    except ConverterError as error:
        emit(error=error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
