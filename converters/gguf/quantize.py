"""GGUF in, GGUF out, with other tensor types or merely rewritten and checked (``COPY``).

The one door of ``converters`` to llama.cpp. The result is written beside its destination, loaded once to prove
that it can be, and only then renamed. Runs in a process of its own, for a bad file may take libllama down.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llama_cpp import llama_cpp as lib

from converters.errors import ConversionFailed, InvalidSource, OutputExists, UnsupportedType
from modelfiles import gguf
from modelfiles.errors import GGUFError
from modelfiles.gguf_types import FILE_TYPES, SplitName

COPY = "COPY"
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
# NVFP4 can be read but libllama cannot make it.
TYPES = {name: number for number, name in FILE_TYPES.items() if name != "NVFP4"}
PLAIN = frozenset({"F32", "F16", "BF16"})
INTEGERS = frozenset({"I8", "I16", "I32", "I64"})
TENSOR_LINE = re.compile(rb"\[ *(\d+)/ *(\d+)\] +(\S+)")
ERROR_LEVEL = 4

Report = Callable[[int, int], None]
"""``report(completed, total)`` in bytes of tensor data."""


def type_named(text: str) -> str:
    """The file type of this name, in any case. UnsupportedType when llama.cpp cannot write it."""
    name = ALIASES.get(text.upper(), text.upper())
    if name != COPY and name not in TYPES:
        raise UnsupportedType(f"unsupported quantization type {text} - supported types are {', '.join(TYPES)}")
    return name


def quantize(source: Path, out: Path, type_name: str, report: Report, threads: int = 0) -> None:
    """Write ``source`` (the first part of a split model stands for all) as ``type_name`` to ``out``."""
    wanted = type_named(type_name)
    headers = read_parts(source)
    if wanted != COPY and not is_plain(headers):
        raise UnsupportedType("quantization is only supported for F16, BF16 and F32 models")
    if os.path.lexists(out):
        raise OutputExists("the destination exists already; choose another name or remove it")
    sizes = {tensor.name: tensor.nbytes for header in headers for tensor in header.tensors}
    _check_space(out, wanted, sum(sizes.values()))
    temporary = out.with_name(f"{out.name}.partial")
    try:
        with _Log(sizes, report) as log:
            _run(source, temporary, wanted, threads, log)
            _check_loads(temporary, log)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.rename(temporary, out)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    report(sum(sizes.values()), sum(sizes.values()))


def read_parts(source: Path) -> list[gguf.Header]:
    """The headers of all files of the model. InvalidSource when one is missing or bad."""
    split = SplitName.parse(source.name)
    paths = [source.with_name(split.file(n + 1)) for n in range(split.count)] if split else [source]
    try:
        headers = [gguf.read_header(path) for path in paths]
        gguf.check_loadable(headers[0])  # llama.cpp would end the process on what this refuses
        return headers
    except GGUFError as error:
        raise InvalidSource(str(error)) from None
    except OSError as error:
        raise InvalidSource(f"cannot read the model: {(error.strerror or 'input/output error').lower()}") from error


def is_plain(headers: list[gguf.Header]) -> bool:
    """Whether no tensor is quantized; the tensors decide, for ``general.file_type`` is often wrong or absent."""
    return all(tensor.type in PLAIN | INTEGERS for header in headers for tensor in header.tensors)


def _check_space(out: Path, wanted: str, source_bytes: int) -> None:
    needed = source_bytes if wanted in (COPY, *PLAIN) else source_bytes // 6
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise ConversionFailed(f"not enough disk space: at least {needed} bytes are needed, {free} are free")


def _run(source: Path, target: Path, wanted: str, threads: int, log: _Log) -> None:
    params = lib.llama_model_quantize_default_params()
    params.nthread = threads
    if wanted == COPY:
        params.only_copy = True
    else:
        params.ftype = TYPES[wanted]
    if lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)) != 0:
        raise ConversionFailed(f"llama.cpp could not rewrite the model: {log.reason(source, target)}")


def _check_loads(path: Path, log: _Log) -> None:
    """Load as the worker would: metadata, vocabulary and every tensor's place. The weights stay on disk."""
    params = lib.llama_model_default_params()
    nothing = (ctypes.c_void_p * 1)(None)
    params.devices = ctypes.cast(nothing, ctypes.c_void_p)  # an empty list: no GPU is woken for this
    params.n_gpu_layers = 0
    params.use_extra_bufts = False  # a repacked copy of the weights would need their size in memory
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ConversionFailed(f"llama.cpp cannot load the model: {log.reason(path)}")
    lib.llama_model_free(model)


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, _: object) -> None:
    pass


class _Log:
    """Turns llama.cpp's log into progress, and keeps its last error lines."""

    def __init__(self, sizes: dict[str, int], report: Report) -> None:
        self._sizes = sizes
        self._total = sum(sizes.values())
        self._done = 0
        self._current = 0
        self._report = report
        self._errors: list[str] = []
        self._callback = lib.llama_log_callback(self._line)

    def __enter__(self) -> _Log:
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        return self

    def __exit__(self, *_: object) -> None:
        lib.llama_log_set(_silent, ctypes.c_void_p(0))

    def reason(self, *paths: Path) -> str:
        """llama.cpp's own words, without our paths."""
        text = self._errors[-1] if self._errors else "no reason given"
        for error in self._errors:
            if "error loading model" in error or "failed to quantize" in error:
                text = error
                break
        for path in paths:
            text = text.replace(f"'{path}'", "the file").replace(str(path), "the file")
        return text.rpartition("failed to quantize: ")[2]

    def _line(self, level: int, text: bytes, _: object) -> None:
        if level == ERROR_LEVEL and text.strip() and len(self._errors) < 100:
            self._errors.append(text.decode("utf-8", "replace").strip())
        elif match := TENSOR_LINE.match(text):
            self._done += self._current
            self._current = self._sizes.get(match[3].decode("utf-8", "replace"), 0)
            self._report(self._done, self._total)
