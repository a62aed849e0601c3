"""Small numbers as they are packed: integers of 2 to 8 bits in 32-bit words, and floats of 8 and 4 bits."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# FP4 E2M1 by its bits (OCP Microscaling Formats v1.0, 5.3.3): sign, two of exponent, one of mantissa.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def unpack(words: NDArray[Any], bits: int, *, axis: int = 0) -> NDArray[np.int32]:
    """Unsigned integers that lie one after the other in 32-bit words, lowest bits first, along ``axis``.

    Widths that do not divide 32 (3) run on from word to word: 32 values in ``bits`` words.
    """
    words = np.moveaxis(np.ascontiguousarray(words).view(np.uint32), axis, 0)
    at = np.arange(32 if 32 % bits else 32 // bits) * bits
    groups = words.reshape(-1, 1 if 32 % bits == 0 else bits, *words.shape[1:])
    low = groups[:, at // 32] >> _column(at % 32, groups.ndim)
    over = at % 32 + bits > 32
    if over.any():
        low[:, over] |= groups[:, at[over] // 32 + 1] << _column(32 - at[over] % 32, groups.ndim)
    values = (low & np.uint32(2**bits - 1)).reshape(-1, *words.shape[1:])
    return np.moveaxis(values, 0, axis).astype(np.int32)


def _column(values: NDArray[Any], dimensions: int) -> NDArray[np.uint32]:
    return values.astype(np.uint32).reshape(1, -1, *(1,) * (dimensions - 2))


def unpack_padded(words: NDArray[Any], bits: int, *, axis: int) -> NDArray[np.int32]:
    """As ``unpack``, but each word holds as many whole values as fit, and its highest bits nothing."""
    words = np.moveaxis(np.ascontiguousarray(words).view(np.uint32), axis, 0)
    at = _column(np.arange(32 // bits) * bits, words.ndim + 1)
    values = ((words[:, None] >> at) & np.uint32(2**bits - 1)).reshape(-1, *words.shape[1:])
    return np.moveaxis(values, 0, axis).astype(np.int32)


def nibbles(data: NDArray[Any]) -> NDArray[np.uint8]:
    """(…, n) bytes → (…, 2n) numbers of four bits, the low ones of a byte first."""
    data = data.view(np.uint8)
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], -1)


@cache
def float8(dtype: str) -> Floats:
    """The value of each of the 256 bit patterns of ``F8_E4M3``, ``F8_E5M2`` or ``F8_E8M0``.

    E4M3 is the "FN" kind: no infinities, and NaN only where all bits but the sign are set (OCP 8-bit Floating Point
    v1.0). E8M0 is a power of two without a sign (OCP Microscaling Formats v1.0, 5.4.1).
    """
    bits = np.arange(256)
    if dtype == "F8_E8M0":
        powers: Floats = np.where(bits == 255, np.nan, np.ldexp(1.0, bits - 127)).astype(np.float32)
        return powers
    width, bias = (3, 7) if dtype == "F8_E4M3" else (2, 15)
    exponent, mantissa = (bits & 127) >> width, bits & (2**width - 1)
    tiny = np.ldexp(mantissa / 2**width, 1 - bias)
    value = np.where(exponent == 0, tiny, np.ldexp(1 + mantissa / 2**width, exponent - bias))
    if dtype == "F8_E4M3":
        value[(bits & 127) == 127] = np.nan
    else:
        value[exponent == 31] = np.where(mantissa[exponent == 31] == 0, np.inf, np.nan)
    signed: Floats = np.where(bits & 128, -value, value).astype(np.float32)
    return signed
