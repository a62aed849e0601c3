"""float32 → the bytes of any tensor type that llama.cpp can make, by ggml's own kernels.

Rows are cut into pieces for several threads: ctypes lets go of the interpreter while ggml works. The bytes are those
of ``llama_model_quantize``, which calls the same kernels on the same rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionFailed, UnsupportedType
from converters.gguf.library import ggml
from modelfiles.gguf_types import TENSOR_TYPES, TensorType

Array = NDArray[np.float32]
NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
PLAIN = ("F32", "F16", "BF16")
PIECE = 4 * 2**20  # elements that one thread takes at a time


def tensor_type(name: str) -> TensorType:
    """UnsupportedType when there is no such tensor type."""
    if name not in NUMBERS:
        raise UnsupportedType(f"there is no tensor type {name}")
    return TENSOR_TYPES[NUMBERS[name]]


def encode(array: Array, type_name: str, imatrix: Array | None = None) -> bytes:
    """``array``: float32, rows in its last dimension. ``imatrix``: one weight per column.

    UnsupportedType when the type cannot hold rows of this length, or needs an importance matrix and has none.
    ConversionFailed for values that are no numbers: llama.cpp would refuse the whole model.
    """
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ConversionFailed("the weights hold values that are not finite numbers; the checkpoint is damaged")
    if type_name in PLAIN:
        return _plain(array, type_name)
    kind, width = tensor_type(type_name), array.shape[-1]
    if width % kind.block:
        raise UnsupportedType(f"rows of {width} are no multiple of the {kind.block} of {type_name}")
    if imatrix is None and ggml.ggml_quantize_requires_imatrix(NUMBERS[type_name]):
        raise UnsupportedType(f"{type_name} needs an importance matrix; give one with --imatrix")
    return b"".join(_quantized(array.reshape(-1, width), type_name, imatrix))


def _plain(array: Array, type_name: str) -> bytes:
    if type_name == "F32":
        return array.tobytes()
    if type_name == "F16":
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if np.isinf(half).any():
            raise UnsupportedType("the weights have values over 65504, more than F16 can hold; choose BF16 or F32")
        return half.tobytes()
    bits = array.view(np.uint32)
    # Round to nearest, ties to even, as ggml does.
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16).tobytes()


def _quantized(rows: Array, type_name: str, imatrix: Array | None) -> Iterator[bytes]:
    kind, (count, width) = tensor_type(type_name), rows.shape
    weights = None if imatrix is None else np.ascontiguousarray(imatrix, dtype=np.float32)
    if weights is not None and weights.shape != (width,):
        raise UnsupportedType(f"the importance matrix has {weights.size} values for rows of {width}")
    size = width // kind.block * kind.size
    step = max(1, PIECE // width)

    def piece(start: int) -> bytes:
        part = rows[start : start + step]
        out = np.empty(len(part) * size, np.uint8)
        pointer = None if weights is None else weights.ctypes.data
        done = ggml.ggml_quantize_chunk(
            NUMBERS[type_name], part.ctypes.data, out.ctypes.data, 0, len(part), width, pointer
        )
        if done != out.size:
            raise ConversionFailed(f"llama.cpp cannot write {type_name}")
        return out.tobytes()

    starts = range(0, count, step)
    if len(starts) == 1:
        return iter([piece(0)])
    return _pool().map(piece, starts)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), thread_name_prefix="encode")


def threads() -> int:
    available: Any = getattr(os, "process_cpu_count", None) or os.cpu_count
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return affinity or available() or 1
