"""``python -m converters <verb> --in PATH --out PATH``: one conversion in a process of its own.

Prints the JSON lines of ``converters.progress``; exit status 1 with ``{"error"}`` when it cannot.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path
from typing import Any

from converters.errors import ConverterError, VerificationFailed
from converters.progress import Progress, emit


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m converters")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    quantize = verbs.add_parser("quantize", help="write a GGUF with other tensor types (or as it is: --type copy)")
    quantize.add_argument("--in", dest="source", type=Path, required=True, metavar="PATH", help="a GGUF")
    quantize.add_argument("--out", type=Path, required=True, metavar="PATH", help="the GGUF to write; must not exist")
    quantize.add_argument("--type", required=True, help="q8_0, q4_K_M … or copy")
    quantize.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    quantize.set_defaults(run=run_quantize)
    to_gguf = verbs.add_parser("to-gguf", help="convert a checkpoint folder (safetensors) to a GGUF and verify it")
    to_gguf.add_argument("--in", dest="source", type=Path, required=True, metavar="FOLDER", help="with config.json")
    to_gguf.add_argument("--out", type=Path, required=True, metavar="PATH", help="the GGUF to write; must not exist")
    to_gguf.add_argument("--type", default="f16", help="f32, f16, bf16, q8_0, q4_K_M … (default f16)")
    to_gguf.add_argument("--name", default="", help="general.name in the file; default: the folder's")
    to_gguf.set_defaults(run=run_to_gguf)
    from_gguf = verbs.add_parser("from-gguf", help="convert a GGUF to a checkpoint folder and verify it")
    from_gguf.add_argument("--in", dest="source", type=Path, required=True, metavar="PATH", help="a GGUF")
    from_gguf.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="must not exist")
    from_gguf.add_argument("--type", default="", choices=("", "f32", "f16", "bf16"), help="default: as in the GGUF")
    from_gguf.set_defaults(run=run_from_gguf)
    adapter = verbs.add_parser("adapter", help="convert a PEFT LoRA folder to a GGUF adapter")
    adapter.add_argument("--in", dest="source", type=Path, required=True, metavar="FOLDER")
    adapter.add_argument("--base", type=Path, required=True, metavar="PATH", help="the GGUF that it is for")
    adapter.add_argument("--out", type=Path, required=True, metavar="PATH", help="the GGUF to write; must not exist")
    adapter.set_defaults(run=run_adapter)
    verify = verbs.add_parser("verify", help="compare a GGUF with the checkpoint that it was made from")
    given_to = verify.add_mutually_exclusive_group(required=True)
    given_to.add_argument("--in", dest="source", type=Path, metavar="FOLDER", help="the checkpoint")
    given_to.add_argument("--adapter", type=Path, metavar="PATH", help="a GGUF adapter instead: does it load?")
    verify.add_argument("--gguf", type=Path, required=True, metavar="PATH")
    verify.add_argument("--leash", action="store_true", help="end when standard input does")
    verify.set_defaults(run=run_verify)
    for verb in verbs.choices.values():
        verb.add_argument("--nice", type=int, default=0, metavar="N", help="give way to other processes: 0 to 19")
    return parser.parse_args(given)


# libllama is loaded only when there is work for it.


def run_quantize(options: argparse.Namespace) -> dict[str, Any] | None:
    from converters.gguf.quantize import quantize

    quantize(options.source, options.out, options.type, Progress(), options.threads)
    return None


def run_to_gguf(options: argparse.Namespace) -> dict[str, Any] | None:
    from converters.to_gguf import convert

    return convert(options.source, options.out, options.type, Progress(), name=options.name)


def run_from_gguf(options: argparse.Namespace) -> dict[str, Any] | None:
    from converters.from_gguf import restore

    return restore(options.source, options.out, Progress(), dtype=options.type.upper())


def run_adapter(options: argparse.Namespace) -> dict[str, Any] | None:
    from converters.gguf.adapter import convert

    return convert(options.source, options.base, options.out, Progress())


def run_verify(options: argparse.Namespace) -> dict[str, Any] | None:
    from converters.verify import check, check_adapter, leash

    if options.leash:
        leash()
    if options.adapter:
        findings = check_adapter(options.gguf, options.adapter)
    else:
        findings = check(options.source, options.gguf)
    if findings.failed:
        raise VerificationFailed("the conversion is wrong: " + "; ".join(findings.failed.values()))
    return findings.summary()


def main(given: list[str]) -> int:
    options = arguments(given)
    # A file that takes libllama down must not leave the weights behind as a core dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(options.nice)
    try:
        result = options.run(options)
    except ConverterError as error:
        emit(error=error.message)
        return 1
    if result is not None:
        emit(result=result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
