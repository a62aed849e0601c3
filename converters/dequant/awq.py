"""AWQ in AutoAWQ's "gemm" layout: four bits, eight output columns to a word in the order 0 2 4 6 1 3 5 7.

``qweight`` (in, out / 8), ``qzeros`` (groups, out / 8), ``scales`` (groups, out).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from converters.dequant.numbers import unpack
from converters.dequant.stored import Dequantized, Floats, Stored, check_shape, ending, part, replaced
from converters.errors import InvalidSource, Unsupported

BITS, PER_WORD = 4, 8
PLACES = np.argsort([0, 2, 4, 6, 1, 3, 5, 7])  # where in a word each of eight columns lies
PARTS = (".qweight", ".qzeros", ".scales")


def dequantize(qweight: NDArray[Any], qzeros: NDArray[Any], scales: Floats) -> Floats:
    """(out, in)."""
    each = len(qweight) // len(scales)
    values = _columns(qweight).reshape(len(scales), each, -1) - _columns(qzeros)[:, None]
    made = (values * scales[:, None]).reshape(len(qweight), -1)
    return np.ascontiguousarray(made.T, np.float32)


def _columns(words: NDArray[Any]) -> NDArray[np.int32]:
    packed = unpack(words, BITS, axis=1)
    return packed.reshape(len(words), -1, PER_WORD)[:, :, PLACES].reshape(len(words), -1)


@dataclass(frozen=True, slots=True)
class AWQ:
    name: ClassVar[str] = "AWQ"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AWQ:
        version, bits = str(config.get("version", "gemm")).lower(), config.get("bits", config.get("w_bit", BITS))
        if version != "gemm" or bits != BITS:
            raise Unsupported(
                f'AWQ with {bits} bits in the layout "{version}" cannot be converted, only 4 bits in "gemm"; '
                'quantize the original with version="GEMM", or convert the original itself'
            )
        return cls()

    def plain(self, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
        linears = ending(tensors, ".qweight")
        gone = [base + suffix for base in linears for suffix in PARTS]
        return replaced(tensors, self._made(linears, tensors), gone)

    def _made(self, linears: Mapping[str, Stored], tensors: Mapping[str, Stored]) -> Iterator[Dequantized]:
        for base, qweight in linears.items():
            qzeros, scales = part(tensors, f"{base}.qzeros"), part(tensors, f"{base}.scales")
            if len(qweight.shape) != 2 or len(scales.shape) != 2 or qweight.dtype not in ("I32", "U32"):
                raise InvalidSource(f'tensor "{qweight.name}" is no AWQ weight')
            (columns, words), groups = qweight.shape, scales.shape[0]
            check_shape(scales, (groups, words * PER_WORD))
            check_shape(qzeros, (groups, words))
            if not groups or columns % groups:
                raise InvalidSource(f'tensor "{qweight.name}": its {columns} columns do not make {groups} groups')
            yield Dequantized(
                f"{base}.weight", (words * PER_WORD, columns), qweight.path, _rows(qweight, qzeros, scales)
            )


def _rows(qweight: Stored, qzeros: Stored, scales: Stored) -> Callable[[int, int], Floats]:
    def rows(start: int, stop: int) -> Floats:
        words = slice(start // PER_WORD, -(-stop // PER_WORD))
        wide = slice(words.start * PER_WORD, words.stop * PER_WORD)
        made = dequantize(qweight.raw()[:, words], qzeros.raw()[:, words], scales.read()[:, wide])
        return made[start - wide.start : stop - wide.start]

    return rows
