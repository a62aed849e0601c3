"""MXFP4, the experts of gpt-oss: 32 weights in four bits each under one power of two. GGUF has the same type.

``…_blocks`` (experts, out, in / 32, 16) bytes, the first of two weights in the low half; ``…_scales`` (experts, out,
in / 32) exponents plus 127. GGUF puts the exponent before the 16 bytes, and into byte j the weights j and j + 16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from converters.dequant.numbers import E2M1, float8, nibbles
from converters.dequant.stored import Dequantized, Floats, Stored, check_shape, ending, part, replaced
from converters.errors import InvalidSource

BLOCKS, SCALES = "_blocks", "_scales"
SIZE, BYTES = 32, 16


def repack(blocks: NDArray[Any], scales: NDArray[Any]) -> NDArray[np.uint8]:
    """(…, n, 16) and (…, n) → the bytes of GGUF's MXFP4, (…, n · 17): the same numbers, no rounding."""
    values = nibbles(blocks)
    halves = values[..., :BYTES] | (values[..., BYTES:] << 4)
    made = np.concatenate([scales.view(np.uint8)[..., None], halves], axis=-1)
    return made.reshape(*made.shape[:-2], -1)


def dequantize(blocks: NDArray[Any], scales: NDArray[Any]) -> Floats:
    """(…, n, 16) and (…, n) → (…, n · 32)."""
    values = E2M1[nibbles(blocks)] * float8("F8_E8M0")[scales.view(np.uint8)][..., None]
    return values.reshape(*values.shape[:-2], -1)


@dataclass(frozen=True, slots=True)
class Experts(Dequantized):
    """As transformers has them unquantized: (experts, in, out). ``blocks`` gives them to GGUF as they are."""

    packed: tuple[Stored, Stored] | None = None

    def blocks(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Experts ``start:stop`` as (experts, out, in / 32 · 17) bytes of MXFP4."""
        if self.packed is None:
            raise InvalidSource(f'tensor "{self.name}" is not stored in blocks')
        blocks, scales = self.packed
        return repack(blocks.raw(start, stop), scales.raw(start, stop))


@dataclass(frozen=True, slots=True)
class MXFP4:
    name: ClassVar[str] = "MXFP4"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MXFP4:
        return cls()

    def plain(self, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
        packed = ending(tensors, BLOCKS)
        gone = [base + end for base in packed for end in (BLOCKS, SCALES)]
        return replaced(tensors, self._made(packed, tensors), gone)

    def _made(self, packed: Mapping[str, Stored], tensors: Mapping[str, Stored]) -> Iterator[Experts]:
        for base, blocks in packed.items():
            scales = part(tensors, base + SCALES)
            if len(blocks.shape) != 4 or blocks.dtype != "U8" or scales.dtype not in ("U8", "F8_E8M0"):
                raise InvalidSource(f'tensor "{blocks.name}" holds no blocks of MXFP4')
            experts, out, count = blocks.shape[:3]
            check_shape(blocks, (experts, out, count, BYTES))
            check_shape(scales, (experts, out, count))
            yield Experts(
                base, (experts, count * SIZE, out), blocks.path, _rows(blocks, scales), "F32", (blocks, scales)
            )


def _rows(blocks: Stored, scales: Stored) -> Any:
    return lambda start, stop: dequantize(blocks.raw(start, stop), scales.raw(start, stop)).swapaxes(1, 2)
