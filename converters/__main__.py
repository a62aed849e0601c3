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
from modelfiles.quantization import parse_rules


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
    imatrix.set_defaults(run=run_imatrix)
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
    for verb in (to_gguf, from_gguf, adapter, verify):
        verb.add_argument("--nice", type=int, default=0, metavar="N", help="give way to other processes: 0 to 19")
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


# libllama is loaded only when there is work for it: each verb imports what it needs.


def run_quantize(options: argparse.Namespace) -> None:
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


def run_imatrix(options: argparse.Namespace) -> None:
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
