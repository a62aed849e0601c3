"""compressed-tensors, as llm-compressor writes it: packed integers, plain 8-bit integers or floats, 4-bit floats.

Which of them a linear is, its parts show:

    weight_packed I32, weight_scale, weight_shape (weight_zero_point, weight_g_idx)   pack-quantized
    weight_packed U8, weight_scale F8_E4M3, weight_global_scale                       nvfp4-pack-quantized
    weight_packed U8, weight_scale U8                                                 mxfp4-pack-quantized
    weight I8 or F8, weight_scale (weight_zero_point)                                 int-, float-, …-quantized
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from converters.dequant.float8 import ACTIVATIONS, FLOATS, spread
from converters.dequant.numbers import E2M1, float8, nibbles, unpack, unpack_padded
from converters.dequant.stored import Dequantized, Floats, Stored, check_shape, ending, part, replaced, scalar
from converters.errors import InvalidSource, Unsupported

FORMATS = frozenset(
    {
        *("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "nvfp4-pack-quantized"),
        *("mxfp4-pack-quantized", "mxfp8-quantized", "mixed-precision", "dense"),
    }
)
PACKED, SCALE, SHAPE, ZERO, INDEX = (f".weight_{end}" for end in ("packed", "scale", "shape", "zero_point", "g_idx"))
GLOBAL = ".weight_global_scale"
PARTS = (PACKED, SCALE, SHAPE, ZERO, INDEX, GLOBAL)
NOT_OF_WEIGHTS = (*ACTIVATIONS, ".input_zero_point", ".input_global_scale", ".output_scale", ".output_zero_point")


@dataclass(frozen=True, slots=True)
class CompressedTensors:
    """``widths``: the bits that linears may have; ``block``: rows and columns that share a scale, where blocks do."""

    widths: frozenset[int]
    block: tuple[int, int]
    name: ClassVar[str] = "compressed-tensors"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CompressedTensors:
        schemes = [_object(scheme) for scheme in _object(config.get("config_groups")).values()]
        formats = [config.get("format") or "dense", _object(config.get("sparsity_config")).get("format") or "dense"]
        formats += [scheme["format"] for scheme in schemes if scheme.get("format")]
        if unknown := [str(name) for name in formats if str(name) not in FORMATS]:
            raise Unsupported(
                f'compressed-tensors in the format "{unknown[0][:40]}" cannot be converted; start from the original '
                "weights, or load it with transformers and save it decompressed"
            )
        weights = [_object(scheme.get("weights")) for scheme in schemes]
        widths = frozenset(bits for w in weights if type(bits := w.get("num_bits")) is int and 1 <= bits <= 8)
        blocks = [pair for w in weights if (pair := _pair(w.get("block_structure")))]
        return cls(widths, blocks[0] if blocks else (128, 128))

    def plain(self, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
        packed = ending(tensors, PACKED)
        scaled = {
            base: tensors[f"{base}.weight"]
            for base in ending(tensors, SCALE)
            if base not in packed and tensors.get(f"{base}.weight") is not None
        }
        gone = [base + end for base in (*packed, *scaled) for end in PARTS]
        gone += [f"{base}.weight" for base in scaled]
        gone += [name for name in tensors if name.endswith(NOT_OF_WEIGHTS)]
        made = [*self._packed(packed, tensors), *self._scaled(scaled, tensors)]
        return replaced(tensors, made, gone)

    def _packed(self, packed: Mapping[str, Stored], tensors: Mapping[str, Stored]) -> Iterator[Dequantized]:
        for base, words in packed.items():
            if len(words.shape) != 2:
                raise Unsupported(f'tensor "{words.name}" packs {len(words.shape)} dimensions; only 2 are known')
            scale = part(tensors, base + SCALE)
            if words.dtype in ("I32", "U32"):
                yield self._integers(base, words, scale, tensors)
            elif words.dtype == "U8":
                yield _float4(base, words, scale, tensors.get(base + GLOBAL))
            else:
                raise InvalidSource(f'tensor "{words.name}" is packed in {words.dtype}, which is not known')

    def _scaled(self, scaled: Mapping[str, Stored], tensors: Mapping[str, Stored]) -> Iterator[Dequantized]:
        for base, weight in scaled.items():
            scale = part(tensors, base + SCALE)
            if len(weight.shape) != 2 or weight.dtype not in ("I8", *FLOATS):
                raise Unsupported(f'tensor "{weight.name}" is {weight.dtype} with scales, which is not known')
            shape = (weight.shape[0], weight.shape[1])
            scales = Scales(scale, shape, self._block(scale, shape))
            zero = tensors.get(base + ZERO)
            yield Dequantized(weight.name, shape, weight.path, _plain_rows(weight, scales, zero))

    def _block(self, scale: Stored, shape: tuple[int, int]) -> tuple[int, int]:
        """The rows and columns that share a scale."""
        out, columns = shape
        if scale.shape in ((), (1,), (1, 1), (out,), (out, 1)):
            return 1, columns
        if len(scale.shape) == 2 and scale.shape[0] == out and columns % scale.shape[1] == 0:
            return 1, columns // scale.shape[1]
        check_shape(scale, (-(-out // self.block[0]), -(-columns // self.block[1])))
        return self.block

    def _integers(self, base: str, words: Stored, scale: Stored, tensors: Mapping[str, Stored]) -> Dequantized:
        told = part(tensors, base + SHAPE).raw().reshape(-1)
        if len(told) != 2 or int(told[0]) != words.shape[0]:
            raise InvalidSource(f'tensor "{base}{SHAPE}" does not fit its weight')
        shape = (int(told[0]), int(told[1]))
        bits, take = self._packing(words, shape[1])
        index = tensors.get(base + INDEX)
        scales = Scales(scale, shape, self._block(scale, shape), None if index is None else index.raw())
        zeros = _packed_zeros(tensors.get(base + ZERO), bits, shape[0], scale)

        def rows(start: int, stop: int) -> Floats:
            values = take(words.raw(start, stop), bits, 1)[:, : shape[1]] - 2 ** (bits - 1)
            made: Floats = (values - scales.zeros(zeros, start, stop)) * scales.rows(start, stop)
            return made

        return Dequantized(f"{base}.weight", shape, words.path, rows)

    def _packing(self, words: Stored, columns: int) -> tuple[int, Take]:
        """Bits and way of packing by the number of words: newer versions let values run on from word to word."""
        dense = [bits for bits in self.widths if -(-columns * bits // 32) == words.shape[1]]
        padded = [bits for bits in self.widths if -(-columns // (32 // bits)) == words.shape[1]]
        if len(dense or padded) != 1:
            raise InvalidSource(f'tensor "{words.name}": {words.shape[1]} words do not hold {columns} columns')
        return (dense[0], _dense) if dense else (padded[0], _padded)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _pair(value: Any) -> tuple[int, int] | None:
    good = isinstance(value, list) and len(value) == 2 and all(type(n) is int and n > 0 for n in value)
    return (value[0], value[1]) if good else None


Take = Callable[[NDArray[Any], int, int], NDArray[np.int32]]
"""``take(words, bits, axis)``: what they hold."""


def _padded(words: NDArray[Any], bits: int, axis: int) -> NDArray[np.int32]:
    return unpack_padded(words, bits, axis=axis)


def _dense(words: NDArray[Any], bits: int, axis: int) -> NDArray[np.int32]:
    """``unpack`` of a last group of 32 that is cut off where its values end."""
    missing = -words.shape[axis] % bits if 32 % bits else 0
    wide = [(0, missing if dimension == axis else 0) for dimension in range(words.ndim)]
    return unpack(np.pad(words, wide), bits, axis=axis)


@dataclass(frozen=True, slots=True)
class Scales:
    """Scales and zero points of a (out, in) weight. ``index``: the group of each column, -1 = in their order."""

    stored: Stored
    shape: tuple[int, int]
    block: tuple[int, int]
    index: NDArray[Any] | None = None

    def rows(self, start: int, stop: int) -> Floats:
        return self._spread(_scale_values(self.stored), start, stop)

    def zeros(self, zeros: Floats | None, start: int, stop: int) -> Floats | float:
        return 0.0 if zeros is None else self._spread(zeros, start, stop)

    def _spread(self, values: Floats, start: int, stop: int) -> Floats:
        if self.index is None or values.ndim != 2 or (self.index < 0).any():
            return spread(values, self.shape, self.block, start, stop)
        if self.index.shape != (self.shape[1],) or self.index.max() >= values.shape[1]:
            raise InvalidSource(f'the columns of "{self.stored.name}" name groups that there are not')
        return values[start:stop][:, self.index]


def _scale_values(scale: Stored) -> Floats:
    """Powers of two are stored as their exponents, in bytes."""
    return float8("F8_E8M0")[scale.raw()] if scale.dtype in ("U8", "F8_E8M0") else scale.read()


def _packed_zeros(zero: Stored | None, bits: int, out: int, scale: Stored) -> Floats | None:
    if zero is None:
        return None
    if zero.dtype == "I8":
        return zero.raw().astype(np.float32)
    dense, padded = -(-out * bits // 32), -(-out // (32 // bits))
    if len(scale.shape) != 2 or zero.shape not in ((dense, scale.shape[1]), (padded, scale.shape[1])):
        raise InvalidSource(f'tensor "{zero.name}" does not fit the scales')
    take = _dense if zero.shape[0] == dense else _padded
    values = take(zero.raw(), bits, 0)[:out] - 2 ** (bits - 1)
    found: Floats = values.astype(np.float32)
    return found


def _plain_rows(weight: Stored, scales: Scales, zero: Stored | None) -> Callable[[int, int], Floats]:
    zeros = None if zero is None or zero.dtype in FLOATS else zero.raw().astype(np.float32)

    def rows(start: int, stop: int) -> Floats:
        raw = weight.raw(start, stop)
        values = raw.astype(np.float32) if weight.dtype == "I8" else float8(weight.dtype)[raw]
        made: Floats = (values - scales.zeros(zeros, start, stop)) * scales.rows(start, stop)
        return made

    return rows


def _float4(base: str, packed: Stored, scale: Stored, outer: Stored | None) -> Dequantized:
    """4-bit floats with a scale per 16 (in 8 bits, under one of all) or per 32 (powers of two)."""
    out, columns = packed.shape[0], 2 * packed.shape[1]
    small = scale.dtype == "F8_E4M3"
    check_shape(scale, (out, columns // (16 if small else 32)))
    if small != (outer is not None) or scale.dtype not in ("F8_E4M3", "U8", "F8_E8M0"):
        raise InvalidSource(f'tensor "{packed.name}" has scales of a kind that is not known')
    divisor = scalar(outer) if outer is not None else np.float32(1)
    kind = "F8_E4M3" if small else "F8_E8M0"

    def rows(start: int, stop: int) -> Floats:
        return dequantize_float4(packed.raw(start, stop), float8(kind)[scale.raw(start, stop)] / divisor)

    return Dequantized(f"{base}.weight", (out, columns), packed.path, rows)


def dequantize_float4(packed: NDArray[Any], scales: Floats) -> Floats:
    """(out, in) of (out, in / 2) bytes and (out, groups) scales."""
    values = E2M1[nibbles(packed)]
    return values * np.repeat(scales, values.shape[1] // scales.shape[1], axis=1)
