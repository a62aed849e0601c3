"""Tensors as a checkpoint has them, held in memory; and the packing of each format written out once more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Kept:
    """``array`` in the file's own number type: BF16 and FP8 as bits."""

    name: str
    dtype: str
    array: np.ndarray
    path: Path = Path("model.safetensors")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def raw(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.array[start:stop] if self.array.ndim else self.array

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        raw = self.raw(start, stop)
        if self.dtype == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        assert self.dtype in ("F64", "F32", "F16"), self.dtype
        return raw.astype(np.float32)


DTYPES = {"float32": "F32", "float16": "F16", "int32": "I32", "int8": "I8", "uint8": "U8", "int64": "I64"}


def checkpoint(arrays: dict[str, np.ndarray], **dtypes: str) -> dict[str, Kept]:
    """``dtypes``: of those whose bits do not tell, by the last part of their names."""
    return {
        name: Kept(name, dtypes.get(name.rpartition(".")[2]) or DTYPES[str(array.dtype)], array)
        for name, array in arrays.items()
    }


def of_torch(tensors: dict[str, object]) -> dict[str, Kept]:
    """The same from torch tensors."""
    import torch

    bits = {torch.bfloat16: ("BF16", torch.uint16), torch.float8_e4m3fn: ("F8_E4M3", torch.uint8),
            torch.float8_e5m2: ("F8_E5M2", torch.uint8)}  # fmt: skip
    found = {}
    for name, tensor in tensors.items():
        dtype, view = bits.get(tensor.dtype, ("", tensor.dtype))
        array = tensor.contiguous().view(view).numpy()
        found[name] = Kept(name, dtype or DTYPES[str(array.dtype)], array)
    return found


def pack_stream(values: np.ndarray, bits: int) -> np.ndarray:
    """(n, …) unsigned integers → (n · bits / 32, …) words, one bit after the other, the lowest first."""
    wide = ((values[:, None] >> np.arange(bits).reshape(1, -1, *(1,) * (values.ndim - 1))) & 1).astype(np.uint8)
    stream = wide.reshape(-1, *values.shape[1:])
    stream = stream.reshape(-1, 32, *values.shape[1:]).astype(np.uint32)
    weights = (1 << np.arange(32, dtype=np.uint64)).astype(np.uint32).reshape(1, -1, *(1,) * (values.ndim - 1))
    return (stream * weights).sum(1, dtype=np.uint32).view(np.int32)
