"""GPTQ: integers in groups of input columns, optionally in the order of their importance (``g_idx``).

``qweight`` (in · bits / 32, out), ``qzeros`` (groups, out · bits / 32), ``scales`` (groups, out), ``g_idx`` (in): as
AutoGPTQ and GPTQModel write. The first form of the format stores every zero point less one ("gptq"), the second as it
is ("gptq_v2").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from converters.dequant.numbers import unpack
from converters.dequant.stored import Dequantized, Floats, Stored, check_shape, ending, part, replaced
from converters.errors import InvalidSource, Unsupported

BITS = (2, 3, 4, 8)
FORMS = {"gptq": 1, "gptq_v2": 0}
PARTS = (".qweight", ".qzeros", ".scales", ".g_idx")


def dequantize(
    qweight: NDArray[Any], qzeros: NDArray[Any], scales: Floats, group_of: NDArray[Any], bits: int, less: int
) -> Floats:
    """(out, in). ``group_of``: (in,) the group of each input column. ``less``: what zero points are stored short of."""
    zeros = (unpack(qzeros, bits, axis=1) + less) & (2**bits - 1)
    values = unpack(qweight, bits) - zeros[group_of]
    return np.ascontiguousarray((values * scales[group_of]).T, np.float32)


@dataclass(frozen=True, slots=True)
class GPTQ:
    """``bits`` and ``group_size`` (-1: one group) where a linear does not show its own."""

    bits: int
    group_size: int
    less: int
    name: ClassVar[str] = "GPTQ"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GPTQ:
        form = config.get("checkpoint_format", "gptq")
        if str(form) not in FORMS:
            raise Unsupported(f'GPTQ in the layout "{form}" cannot be converted; save it as "gptq" with GPTQModel')
        bits, group_size = config.get("bits", 4), config.get("group_size", 128)
        if bits not in BITS or not isinstance(group_size, int):
            raise Unsupported(f"GPTQ with {bits} bits in groups of {group_size} is not known; 2, 3, 4 and 8 bits are")
        return cls(bits, group_size, FORMS[form])

    def plain(self, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
        linears = ending(tensors, ".qweight")
        gone = [base + suffix for base in linears for suffix in PARTS]
        return replaced(tensors, self._made(linears, tensors), gone)

    def _made(self, linears: Mapping[str, Stored], tensors: Mapping[str, Stored]) -> Iterator[Dequantized]:
        for base, qweight in linears.items():
            qzeros, scales = part(tensors, f"{base}.qzeros"), part(tensors, f"{base}.scales")
            bits, columns, group_of = self._layout(qweight, scales, tensors.get(f"{base}.g_idx"))
            out = qweight.shape[1]
            check_shape(scales, (len(scales.shape) and scales.shape[0], out))
            check_shape(qzeros, (scales.shape[0], out * bits // 32))
            yield Dequantized(
                f"{base}.weight",
                (out, columns),
                qweight.path,
                self._rows(qweight, qzeros, scales, group_of, bits),
            )

    def _layout(self, qweight: Stored, scales: Stored, index: Stored | None) -> tuple[int, int, NDArray[np.int64]]:
        """(bits, input columns, the group of each). Bits are those that fit the shapes: they may differ by linear."""
        if len(qweight.shape) != 2 or len(scales.shape) != 2 or qweight.dtype not in ("I32", "U32"):
            raise InvalidSource(f'tensor "{qweight.name}" is no GPTQ weight')
        words, groups = qweight.shape[0], scales.shape[0]
        if index is not None:
            columns = index.shape[0]
            bits = 32 * words // max(columns, 1)
            group_of = index.raw().astype(np.int64)
        else:
            bits, columns = self.bits, words * 32 // self.bits
            group_of = np.arange(columns) // (columns if self.group_size < 1 else self.group_size)
        if bits not in BITS or words * 32 != columns * bits or qweight.shape[1] * bits % 32:
            raise InvalidSource(f'tensor "{qweight.name}": its {words} rows do not hold {columns} columns of any width')
        if not columns or group_of.min() < 0 or group_of.max() >= groups:
            raise InvalidSource(f'tensor "{qweight.name}": its columns name groups that it has no scales for')
        return bits, columns, group_of

    def _rows(self, qweight: Stored, qzeros: Stored, scales: Stored, group_of: NDArray[np.int64], bits: int) -> Any:
        def rows(start: int, stop: int) -> Floats:
            first, last = start * bits // 32, -(-stop * bits // 32)  # whole words of zero points
            first -= first % bits if 32 % bits else 0
            last += -last % bits if 32 % bits else 0
            skip = start - first * 32 // bits
            wide = slice(first * 32 // bits, min(last * 32 // bits, qweight.shape[1]))
            made = dequantize(
                qweight.raw()[:, wide], qzeros.raw()[:, first:last], scales.read()[:, wide], group_of, bits, self.less
            )
            return made[skip : skip + stop - start]

        return rows
