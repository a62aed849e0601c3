"""bitsandbytes: 4 bits in NF4 or FP4 by blocks of the flattened weight, or 8-bit integers by rows (LLM.int8).

Four bits: ``weight`` (bytes; the high half first), ``weight.absmax`` and ``weight.quant_map``, both again quantized if
``weight.nested_…`` are there; the rest is JSON in ``weight.quant_state.bitsandbytes__nf4``. Eight: ``weight`` I8 and
``SCB``, the largest value of each row. Layout: bitsandbytes' ``QuantState.as_dict`` and ``Linear8bitLt``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from converters.dequant.stored import Dequantized, Floats, Stored, check_shape, ending, part, replaced
from converters.errors import InvalidSource, Unsupported

STATE = ".quant_state.bitsandbytes__"
KINDS = ("nf4", "fp4")
BYTES = {"U8": 1, "I8": 1, "F16": 2, "BF16": 2, "F32": 4}  # the halves of bytes may be kept in other types
PARTS = ("", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", *(STATE + kind for kind in KINDS))


def dequantize_4bit(
    data: NDArray[np.uint8], absmax: Floats, code: Floats, block: int, first: int, count: int
) -> Floats:
    """(count,) elements from ``first`` on; ``data`` begins with the byte that holds ``first``."""
    values = np.stack([data >> 4, data & 15], axis=-1).reshape(-1)[first % 2 :][:count]
    return code[values] * absmax[np.arange(first, first + count) // block]


def dequantize_8bit(rows: NDArray[np.int8], largest: Floats) -> Floats:
    """(out, in); ``largest`` (out,)."""
    return rows.astype(np.float32) * (largest / np.float32(127))[:, None]


@dataclass(frozen=True, slots=True)
class BitsAndBytes:
    name: ClassVar[str] = "bitsandbytes"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BitsAndBytes:
        return cls()

    def plain(self, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
        states = {base: kind for kind in KINDS for base in ending(tensors, f".weight{STATE}{kind}")}
        rowwise = ending(tensors, ".SCB")
        gone = [f"{base}.weight{suffix}" for base in states for suffix in PARTS]
        gone += [base + suffix for base in rowwise for suffix in (".weight", ".SCB", ".weight_format")]
        made = [*(_four(tensors, base, kind) for base, kind in states.items()), *_eight(tensors, rowwise)]
        return replaced(tensors, made, gone)


@dataclass(frozen=True, slots=True)
class State:
    """The JSON beside a 4-bit weight."""

    shape: tuple[int, ...]
    block: int
    nested_block: int
    nested_offset: float

    @classmethod
    def read(cls, tensor: Stored) -> State:
        try:
            raw = json.loads(bytes(tensor.raw().view(np.uint8)))
            found = cls(
                tuple(map(int, raw["shape"])),
                int(raw["blocksize"]),
                int(raw.get("nested_blocksize", 0)),
                float(raw.get("nested_offset", 0)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidSource(f'tensor "{tensor.name}" does not say how its weight is quantized') from None
        if not found.shape or min(found.shape) < 1 or found.block < 1:
            raise InvalidSource(f'tensor "{tensor.name}" gives impossible sizes')
        return found


def _four(tensors: Mapping[str, Stored], base: str, kind: str) -> Dequantized:
    name = f"{base}.weight"
    state = State.read(tensors[f"{name}{STATE}{kind}"])
    weight, code = part(tensors, name), part(tensors, f"{name}.quant_map").read().reshape(-1)
    columns = int(np.prod(state.shape[1:], dtype=np.int64))
    elements = state.shape[0] * columns
    nbytes = int(np.prod(weight.shape, dtype=np.int64)) * BYTES.get(weight.dtype, 0)
    if len(code) != 16 or 2 * nbytes not in (elements, elements + 1):
        raise InvalidSource(f'tensor "{name}" does not hold the {elements} values that its state speaks of')
    blocks = -(-elements // state.block)
    absmax = part(tensors, f"{name}.absmax")
    check_shape(absmax, (blocks,))

    def rows(start: int, stop: int) -> Floats:
        first, count = start * columns, (stop - start) * columns
        data = weight.raw().reshape(-1).view(np.uint8)[first // 2 : -(-(first + count) // 2)]
        scales = _absmax(tensors, name, absmax, state)
        return dequantize_4bit(data, scales, code, state.block, first, count).reshape(-1, *state.shape[1:])

    return Dequantized(name, state.shape, weight.path, rows)


def _absmax(tensors: Mapping[str, Stored], name: str, absmax: Stored, state: State) -> Floats:
    if absmax.dtype != "U8":
        return absmax.read()
    code = part(tensors, f"{name}.nested_quant_map").read()
    outer = part(tensors, f"{name}.nested_absmax").read()
    if len(code) != 256 or state.nested_block < 1 or len(outer) * state.nested_block < absmax.shape[0]:
        raise InvalidSource(f'tensor "{absmax.name}" is quantized itself in a way that its state does not explain')
    inner = code[absmax.raw()] * outer[np.arange(absmax.shape[0]) // state.nested_block]
    return inner + np.float32(state.nested_offset)


def _eight(tensors: Mapping[str, Stored], linears: Mapping[str, Stored]) -> Iterator[Dequantized]:
    for base, largest in linears.items():
        weight = part(tensors, f"{base}.weight")
        form = tensors.get(f"{base}.weight_format")
        if weight.dtype != "I8" or (form is not None and int(form.raw().reshape(-1)[0]) != 0):
            raise Unsupported(f'tensor "{weight.name}" is in the layout of a GPU; save anew with bitsandbytes ≥ 0.43')
        check_shape(largest, weight.shape[:1])
        yield Dequantized(weight.name, weight.shape, weight.path, _eight_rows(weight, largest))


def _eight_rows(weight: Stored, largest: Stored) -> Any:
    return lambda start, stop: dequantize_8bit(weight.raw(start, stop), largest.read(start, stop))
