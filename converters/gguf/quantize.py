"""GGUF in, GGUF out, with other tensor types or merely rewritten and checked (``COPY``).

The result is written beside its destination, loaded once to prove that it can be, and only then renamed. Runs in a
process of its own, for a bad file may take libllama down.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib

from converters.errors import ConversionFailed, InvalidSource, OutputExists, UnsupportedType
from converters.gguf.few_values import has_few_values
from converters.gguf.imatrix_file import ImportanceMatrix
from converters.gguf.libllama import Log, loaded
from converters.gguf.plan import NUMBERS, Plan, make_plan
from modelfiles import gguf
from modelfiles.errors import GGUFError
from modelfiles.gguf_types import SplitName
from modelfiles.quantization import (
    FEW_VALUES,
    FILE_NUMBERS,
    INTEGERS,
    NEEDS_IMATRIX,
    PLAIN,
    Rule,
    assign,
    file_type_named,
    needs_imatrix_text,
)

COPY = "COPY"
TENSOR_LINE = re.compile(rb"\[ *(\d+)/ *(\d+)\] +(\S+)")
REQUANTIZED = "llamada.requantized_from"
MAX_OVERRIDE = 127  # bytes of a text that libllama takes as metadata

Report = Callable[[int, int], None]
"""``report(completed, total)`` in bytes of tensor data."""


def _nothing(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Settings:
    """``allow_requantize``: also from weights that are quantized already. ``warn`` is told what a user should know."""

    imatrix: ImportanceMatrix | None = None
    rules: Sequence[Rule] = ()
    allow_requantize: bool = False
    threads: int = 0
    warn: Callable[[str], None] = _nothing


DEFAULTS = Settings()


def type_named(text: str) -> str:
    """The file type of this name, in any case. UnsupportedType when llama.cpp cannot write it."""
    name = COPY if text.upper() == COPY else file_type_named(text)
    if name is None:
        raise UnsupportedType(f"unsupported quantization type {text} - supported types are {', '.join(FILE_NUMBERS)}")
    return name


def quantize(source: Path, out: Path, type_name: str, report: Report, settings: Settings = DEFAULTS) -> None:
    """Write ``source`` (the first part of a split model stands for all) as ``type_name`` to ``out``."""
    wanted = type_named(type_name)
    headers = read_parts(source)
    chosen = _check(wanted, headers, settings)
    if os.path.lexists(out):
        raise OutputExists("the destination exists already; choose another name or remove it")
    sizes = {tensor.name: tensor.nbytes for header in headers for tensor in header.tensors}
    params, _kept = _params(wanted, headers, settings, chosen)
    needed = sum(sizes.values())
    if wanted != COPY:
        plan = make_plan(source, params, wanted, headers, chosen, has_imatrix=settings.imatrix is not None)
        needed = plan.nbytes
        _warn(plan, settings)
    _check_space(out, needed)
    temporary = out.with_name(f"{out.name}.partial")
    try:
        with Log(_Progress(sizes, report)) as log:
            if lib.llama_model_quantize(os.fsencode(source), os.fsencode(temporary), ctypes.byref(params)) != 0:
                raise ConversionFailed(f"llama.cpp could not rewrite the model: {log.reason(source, temporary)}")
            with loaded(temporary, log):
                pass
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


def _check(wanted: str, headers: list[gguf.Header], settings: Settings) -> dict[str, Rule]:
    """The rule of each tensor that has one. UnsupportedType for what would end in a worse model than asked for."""
    if wanted == COPY:
        if settings.rules or settings.imatrix:
            raise UnsupportedType("a copy has the tensor types of its source; choose a quantization type")
        return {}
    if not settings.allow_requantize and not is_plain(headers):
        raise UnsupportedType(
            "quantization is only supported for F16, BF16 and F32 models; "
            "allow_requantize quantizes this one anew, with the loss of both"
        )
    if wanted in NEEDS_IMATRIX and settings.imatrix is None:
        raise UnsupportedType(needs_imatrix_text(wanted))
    if wanted in FEW_VALUES and not has_few_values(headers, wanted):
        raise UnsupportedType(
            f"{wanted} keeps one magnitude per block: only a model that was trained for that survives it (BitNet). "
            "Choose IQ2_XXS or IQ1_M with an importance matrix instead"
        )
    if wanted == "MXFP4" and not headers[0].setting("expert_count"):
        raise UnsupportedType("MXFP4 is for mixtures of experts, and would store this model as Q8_0; choose IQ4_NL")
    return _check_rules(wanted, headers, settings)


def _check_rules(wanted: str, headers: list[gguf.Header], settings: Settings) -> dict[str, Rule]:
    if settings.rules and wanted in PLAIN:
        raise UnsupportedType(f"single tensor types need a quantized type for the rest, not {wanted}")
    chosen = assign(settings.rules, (tensor.name for header in headers for tensor in header.tensors))
    for rule in settings.rules:
        if rule not in chosen.values():
            raise UnsupportedType(
                f"tensor type {rule} matches no tensor, or only such as an earlier one matches; "
                "the pattern is for the whole name, such as blk.0.ffn_down.weight"
            )
    return chosen


def _warn(plan: Plan, settings: Settings) -> None:
    for warning in plan.warnings:
        settings.warn(warning)
    if settings.imatrix is not None:
        if not plan.types.keys() & settings.imatrix.entries.keys():
            raise UnsupportedType("the importance matrix is of another model: it names none of its tensors")
        if silent := settings.imatrix.silent_experts:
            settings.warn(f"the importance matrix knows nothing of {silent} experts; more calibration text would help")


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise ConversionFailed(f"not enough disk space: at least {needed} bytes are needed, {free} are free")


# -- libllama's parameters ----------------------------------------------------------------------------------


def _params(
    wanted: str, headers: list[gguf.Header], settings: Settings, chosen: Mapping[str, Rule]
) -> tuple[lib.llama_model_quantize_params, list[Any]]:
    """The parameters, and what must live as long as they do."""
    params = lib.llama_model_quantize_default_params()
    params.nthread = settings.threads
    if wanted == COPY:
        params.only_copy = True
        return params, []
    params.ftype = FILE_NUMBERS[wanted]
    params.allow_requantize = settings.allow_requantize
    kept: list[Any] = []
    if chosen:
        params.tt_overrides = _tensor_types(chosen, kept)
    if settings.imatrix is not None:
        params.imatrix = _importance(settings.imatrix, kept)
    params.kv_overrides = _provenance(headers, settings, kept)
    return params, kept


def _tensor_types(chosen: Mapping[str, Rule], kept: list[Any]) -> Any:
    """Whole names, escaped: libllama searches its patterns anywhere in a name."""
    array = (lib.llama_model_tensor_override * (len(chosen) + 1))()
    for slot, (name, rule) in zip(array, chosen.items(), strict=False):
        slot.pattern = f"^{re.escape(name)}$".encode()
        slot.type = NUMBERS[rule.type]
    kept.append(array)
    return array


def _importance(matrix: ImportanceMatrix, kept: list[Any]) -> Any:
    array = (lib.llama_model_imatrix_data * (len(matrix.entries) + 1))()
    for slot, (name, entry) in zip(array, matrix.entries.items(), strict=False):
        means = np.ascontiguousarray(entry.means())
        kept.append(means)
        slot.name = name.encode()
        slot.data = means.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        slot.size = means.size
    kept.append(array)
    return array


def _provenance(headers: list[gguf.Header], settings: Settings, kept: list[Any]) -> Any:
    """What the file should say of how it was made, under llama.cpp's own keys where it has some."""
    found: dict[str, str | int] = {}
    if settings.imatrix is not None:
        found["quantize.imatrix.entries_count"] = len(settings.imatrix.entries)
        if settings.imatrix.datasets:
            found["quantize.imatrix.dataset"] = settings.imatrix.datasets[0]
        if settings.imatrix.chunks:
            found["quantize.imatrix.chunks_count"] = settings.imatrix.chunks
    if not is_plain(headers):
        found[REQUANTIZED] = headers[0].file_type
    array = (lib.llama_model_kv_override * (len(found) + 1))()
    for slot, (key, value) in zip(array, found.items(), strict=False):
        slot.key = key.encode()
        if isinstance(value, int):
            slot.tag, slot.value.val_i64 = lib.LLAMA_KV_OVERRIDE_TYPE_INT, value
        else:
            text = value.encode()[:MAX_OVERRIDE].decode("utf-8", "ignore").encode()
            slot.tag, slot.value.val_str = lib.LLAMA_KV_OVERRIDE_TYPE_STR, text
    kept.append(array)
    return array


class _Progress:
    """Turns llama.cpp's log into progress."""

    def __init__(self, sizes: Mapping[str, int], report: Report) -> None:
        self._sizes = sizes
        self._total = sum(sizes.values())
        self._done = 0
        self._current = 0
        self._report = report

    def __call__(self, text: bytes) -> None:
        if match := TENSOR_LINE.match(text):
            self._done += self._current
            self._current = self._sizes.get(match[3].decode("utf-8", "replace"), 0)
            self._report(self._done, self._total)
