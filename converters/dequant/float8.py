"""Weights as 8-bit floats with scales: one of all, one per row, or one per block of rows and columns.

DeepSeek's and transformers' "fp8" (``weight_scale_inv``, which is multiplied all the same), "fbgemm_fp8" and NVIDIA's
"modelopt" FP8 (``weight_scale``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from converters.dequant.numbers import float8
from converters.dequant.stored import Dequantized, Floats, Stored, part, replaced
from converters.errors import InvalidSource, Unsupported

FLOATS = ("F8_E4M3", "F8_E5M2")
# The scales of activations: nothing of the weights.
ACTIVATIONS = (".input_scale", ".activation_scale", ".input_scale_ub", ".k_scale", ".v_scale")


def dequantize(bits: NDArray[Any], dtype: str, scales: Floats) -> Floats:
    """(out, in) of bits; ``scales`` (out, in) or what broadcasts to it."""
    return float8(dtype)[bits.view(np.uint8)] * scales


def spread(scales: Floats, shape: tuple[int, int], block: tuple[int, int], start: int, stop: int) -> Floats:
    """The scales of rows ``start:stop`` of a (out, in) weight, so that they broadcast: from one, (out, 1) or blocks."""
    if scales.size == 1:
        return scales.reshape(1, 1)
    if scales.shape in ((shape[0], 1), (shape[0],)):
        return scales.reshape(-1, 1)[start:stop]
    down, across = block
    rows = scales[np.arange(start, stop) // down]
    return np.repeat(rows, across, axis=1)[:, : shape[1]]


def check_scales(weight: Stored, scales: Stored, block: tuple[int, int]) -> None:
    out, columns = weight.shape
    blocks = (-(-out // block[0]), -(-columns // block[1]))
    if scales.shape not in ((), (1,), (1, 1), (out,), (out, 1), blocks):
        raise InvalidSource(f'tensor "{scales.name}" has the shape {list(scales.shape)}, which fits no way of scaling')


def scales_of(tensor: Stored) -> Floats:
    """Scales may be powers of two in 8 bits themselves."""
    return float8(tensor.dtype)[tensor.raw()] if tensor.dtype == "F8_E8M0" else tensor.read()


@dataclass(frozen=True, slots=True)
class Float8:
    name: str
    block: tuple[int, int]
    suffix: ClassVar[tuple[str, ...]] = ("_scale_inv", "_scale")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Float8:
        block = config.get("weight_block_size") or (128, 128)
        good = isinstance(block, list | tuple) and len(block) == 2 and all(type(n) is int and n > 0 for n in block)
        if not good:
            raise InvalidSource(f"config.json: weight_block_size {str(block)[:40]} is no pair of sizes")
        algorithm = str(config.get("quant_algo", "FP8")).upper()
        if not algorithm.startswith("FP8"):
            raise Unsupported(
                f'modelopt\'s "{algorithm[:40]}" cannot be converted, only its FP8; start from the original weights'
            )
        return cls(f"FP8 ({config.get('quant_method')})", (block[0], block[1]))

    def plain(self, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
        weights = {name: tensor for name, tensor in tensors.items() if tensor.dtype in FLOATS}
        gone = [name for name in tensors if name.endswith(ACTIVATIONS)]
        gone += [name + suffix for name in weights for suffix in ("", *self.suffix)]
        return replaced(tensors, self._made(weights, tensors), gone)

    def _made(self, weights: Mapping[str, Stored], tensors: Mapping[str, Stored]) -> Iterator[Dequantized]:
        for name, weight in weights.items():
            scales = next((tensors[name + s] for s in self.suffix if name + s in tensors), None)
            scales = scales if scales is not None else part(tensors, name + self.suffix[-1])
            if len(weight.shape) != 2:
                raise Unsupported(f'tensor "{name}" holds 8-bit floats in {len(weight.shape)} dimensions, not 2')
            check_scales(weight, scales, self.block)
            yield Dequantized(name, weight.shape, weight.path, rows_of(weight, scales, self.block))


def rows_of(weight: Stored, scales: Stored, block: tuple[int, int]) -> Callable[[int, int], Floats]:
    shape = (weight.shape[0], weight.shape[1])

    def rows(start: int, stop: int) -> Floats:
        return dequantize(weight.raw(start, stop), weight.dtype, spread(scales_of(scales), shape, block, start, stop))

    return rows
