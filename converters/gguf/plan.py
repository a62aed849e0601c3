"""What a quantization will do to each tensor, asked before hours are spent: llama.cpp's dry run, read from its log."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_cpp import llama_cpp as lib

from converters.errors import ConversionFailed, UnsupportedType
from converters.gguf.libllama import Log
from modelfiles.gguf import Header, TensorInfo
from modelfiles.gguf_types import TENSOR_TYPES
from modelfiles.quantization import (
    BLOCKS,
    TENSORS_NEED_IMATRIX,
    Rule,
    Sized,
    needs_imatrix_text,
    substitutes,
    substitutes_text,
)

TENSOR_LINE = re.compile(rb"\[ *\d+/ *\d+\] +(\S+) +- \[.*\], type = +(\S+),")
NEW_TYPE = re.compile(rb"-> .*\((\S+)\)")
NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
SIZES = {kind.name: kind for kind in TENSOR_TYPES.values()}
OUTER = ("token_embd.weight", "output.weight", "per_layer_token_embd.weight")


@dataclass(frozen=True, slots=True)
class Plan:
    """``types``: of every tensor as it will be."""

    types: Mapping[str, str]
    nbytes: int
    warnings: tuple[str, ...] = ()


def make_plan(
    source: Path, params: lib.llama_model_quantize_params, file_type: str, headers: Sequence[Header],
    chosen: Mapping[str, Rule], *, has_imatrix: bool,
) -> Plan:  # fmt: skip
    """``params`` as they will be used. UnsupportedType when a rule cannot be followed as it was given."""
    tensors = {tensor.name: tensor for header in headers for tensor in header.tensors}
    types = _dry_run(source, params)
    if types.keys() != tensors.keys():
        raise ConversionFailed("llama.cpp did not say what it would do with every tensor; please report this")
    _check_rules(types, tensors, chosen, has_imatrix)
    sized = [Sized(t.name, t.shape[0], types[t.name], len(t.shape)) for t in tensors.values() if t.name not in chosen]
    instead = substitutes(file_type, sized)
    warnings = (substitutes_text(file_type, instead, len(tensors)),) if instead else ()
    return Plan(types, sum(_nbytes(tensor, types[name]) for name, tensor in tensors.items()), warnings)


def _dry_run(source: Path, params: lib.llama_model_quantize_params) -> dict[str, str]:
    types: dict[str, str] = {}
    current = ""

    def take(text: bytes) -> None:
        nonlocal current
        if match := TENSOR_LINE.match(text):
            current = match[1].decode("utf-8", "replace")
            types[current] = match[2].decode().upper()
        elif current and (match := NEW_TYPE.search(text)):
            types[current] = match[1].decode().upper()
            current = ""

    params.dry_run = True
    try:
        with Log(take) as log:
            if lib.llama_model_quantize(os.fsencode(source), b"", ctypes.byref(params)) != 0:
                raise ConversionFailed(f"llama.cpp could not rewrite the model: {log.reason(source)}")
    finally:
        params.dry_run = False
    return types


def _check_rules(
    types: Mapping[str, str], tensors: Mapping[str, TensorInfo], chosen: Mapping[str, Rule], has_imatrix: bool
) -> None:
    """Every rule has a tensor that follows it; none asks for what rows or a missing importance matrix forbid."""
    followed: set[Rule] = set()
    for name, rule in chosen.items():
        block = BLOCKS[rule.type]
        if rule.type in TENSORS_NEED_IMATRIX and not has_imatrix and name not in OUTER:
            raise UnsupportedType(needs_imatrix_text(f"{rule} (tensor {name})"))
        if types[name] == rule.type:
            followed.add(rule)
        elif len(tensors[name].shape) > 1 and tensors[name].shape[0] % block:
            raise UnsupportedType(
                f"tensor {name} has rows of {tensors[name].shape[0]} values, which {rule.type} packs in blocks of "
                f"{block}; choose a type with smaller blocks, such as Q8_0 or IQ4_NL"
            )
    for rule in dict.fromkeys(chosen.values()):
        if rule not in followed:
            raise UnsupportedType(f"tensor type {rule}: llama.cpp never quantizes the tensors that match it")


def _nbytes(tensor: TensorInfo, type_name: str) -> int:
    kind = SIZES[type_name]
    return tensor.elements // kind.block * kind.size
