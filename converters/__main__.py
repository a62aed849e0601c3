"""``python -m converters <verb> --in PATH --out PATH``: one conversion in a process of its own.

Prints JSON lines: ``{"completed", "total"}`` while it works, ``{"warning"}`` for what a user should know, ``{"error"}``
(exit status 1) when it cannot.
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
from modelfiles.errors import QuantizationError
from modelfiles.quantization import parse_rules

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
    quantize = _verb(verbs, "quantize", "write a GGUF with other tensor types (or as it is: --type copy)")
    quantize.add_argument("--type", required=True, help="q8_0, q4_K_M … or copy")
    quantize.add_argument("--imatrix", type=Path, metavar="PATH", help="an importance matrix of llama.cpp")
    quantize.add_argument(
        "--tensor-type", dest="rules", action="append", default=[], metavar="PATTERN=TYPE",
        help="the type of the tensors whose whole name the regular expression matches; the first that does counts",
    )  # fmt: skip
    quantize.add_argument("--allow-requantize", action="store_true", help="also from weights quantized before")
    imatrix = _verb(verbs, "imatrix", "compute the importance matrix of a GGUF, in llama.cpp's file format")
    words = imatrix.add_mutually_exclusive_group(required=True)
    words.add_argument("--text", dest="texts", type=Path, action="append", metavar="PATH", help="a UTF-8 text to read")
    words.add_argument("--self", dest="own", action="store_true", help="read what the model itself writes")
    imatrix.add_argument("--dataset", dest="datasets", action="append", default=[], help="what the file calls the text")
    imatrix.add_argument("--chunk", type=_chunk, default=512, metavar="N", help="tokens at a time (512)")
    imatrix.add_argument("--chunks", type=int, default=0, metavar="N", help="at most so many; default: all, --self: 32")
    return parser.parse_args(given)


def _chunk(text: str) -> int:
    if not 32 <= int(text) <= 8192:
        raise argparse.ArgumentTypeError("must be from 32 to 8192")
    return int(text)


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    verb.add_argument("--in", dest="source", type=Path, required=True, metavar="PATH", help="a GGUF")
    verb.add_argument("--out", type=Path, required=True, metavar="PATH", help="the file to write; must not exist")
    verb.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    verb.add_argument("--nice", type=int, default=0, metavar="N", help="give way to other processes: 0 to 19")
    return verb


def quantize(options: argparse.Namespace) -> None:
    from converters.gguf import imatrix_file
    from converters.gguf.quantize import Settings, quantize

    settings = Settings(
        imatrix=imatrix_file.read(options.imatrix) if options.imatrix else None,
        rules=parse_rules(options.rules),
        allow_requantize=options.allow_requantize,
        threads=options.threads,
        warn=lambda text: emit(warning=text),
    )
    quantize(options.source, options.out, options.type, Progress(), settings)


def imatrix(options: argparse.Namespace) -> None:
    from converters.gguf import imatrix, imatrix_file

    report = Progress()
    matrix = imatrix.compute(
        options.source, options.texts or (), report, chunk=options.chunk, chunks=options.chunks,
        threads=options.threads, datasets=options.datasets,
    )  # fmt: skip
    if matrix.silent_experts:
        emit(warning=f"no token reached {matrix.silent_experts} of the experts; more text would help")
    imatrix_file.write(matrix, options.out)
    report(1, 1)


# libllama is loaded only when there is work for it: each verb imports what it needs.
VERBS = {"quantize": quantize, "imatrix": imatrix}


def main(given: list[str]) -> int:
    options = arguments(given)
    # A file that takes libllama down must not leave the weights behind as a core dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(options.nice)
    try:
        VERBS[options.verb](options)
    except ConverterError as error:
        emit(error=error.message)
        return 1
    except QuantizationError as error:
        emit(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
