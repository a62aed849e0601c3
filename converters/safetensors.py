"""The safetensors format, read and written without its package.

A file is an 8-byte length, that much JSON (name → dtype, shape, data_offsets) and the tensors. Nothing in it is
believed that the real size of the file does not allow; weights are read when asked for, as float32, and in rows.
Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import InvalidSource

MAX_HEADER = 100_000_000  # the reference implementation's own limit
MAX_DIMENSIONS = 8
# dtype → (bytes, numpy type of what lies in the file)
DTYPES: Mapping[str, tuple[int, str]] = {
    "F64": (8, "<f8"), "F32": (4, "<f4"), "F16": (2, "<f2"), "BF16": (2, "<u2"),
    "I64": (8, "<i8"), "I32": (4, "<i4"), "I16": (2, "<i2"), "I8": (1, "i1"),
    "U64": (8, "<u8"), "U32": (4, "<u4"), "U16": (2, "<u2"), "U8": (1, "u1"), "BOOL": (1, "?"),
    "F8_E4M3": (1, "u1"), "F8_E5M2": (1, "u1"), "F8_E8M0": (1, "u1"),
}  # fmt: skip

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file: ``raw`` is what lies there, ``read`` are its values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int

    def raw(self, start: int = 0, stop: int | None = None) -> Array:
        """Rows ``start:stop`` of the first dimension, in the file's own number type (BF16 and FP8 as bits)."""
        size, code = DTYPES[self.dtype]
        rows = self.shape[0] if self.shape else 1
        stop = rows if stop is None else stop
        inner = math.prod(self.shape[1:])
        count = (stop - start) * inner
        with open(self.path, "rb") as file:
            file.seek(self.offset + start * inner * size)
            data = np.fromfile(file, dtype=code, count=count)
        if data.size != count:
            raise InvalidSource(f"{self.path.name} has become shorter since its header was read")
        return data.reshape((stop - start, *self.shape[1:]) if self.shape else ())

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """The values as float32. InvalidSource for a type that holds no plain numbers."""
        data = self.raw(start, stop)
        if self.dtype == "BF16":
            return (data.astype(np.uint32) << 16).view(np.float32)
        if self.dtype not in ("F64", "F32", "F16"):
            raise InvalidSource(f'tensor "{self.name}" is stored as {self.dtype}, which is no plain weight')
        return data.astype(np.float32, copy=False)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """All tensors of a file by name. InvalidSource when the header is not what the format says."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InvalidSource(f"{path.name} is no regular file")
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 2 <= length <= min(MAX_HEADER, status.st_size - 8):
            raise InvalidSource(f"{path.name} is no safetensors file: its header cannot be that long")
        text = file.read(length)
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidSource(f"{path.name} is no safetensors file: its header is not JSON") from None
    if not isinstance(table, dict):
        raise InvalidSource(f"{path.name} is no safetensors file: its header is no object")
    table.pop("__metadata__", None)
    return {name: _tensor(path, name, entry, 8 + length, status.st_size) for name, entry in table.items()}


def _tensor(path: Path, name: str, entry: Any, data: int, size: int) -> StoredTensor:
    where = f'{path.name}: tensor "{name[:200]}"'
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise InvalidSource(f"{where} has no dtype, shape or offsets") from None
    if dtype not in DTYPES:
        raise InvalidSource(f"{where} has the unknown dtype {str(dtype)[:20]}")
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (*shape, begin, end))
    if not whole or len(shape) > MAX_DIMENSIONS:
        raise InvalidSource(f"{where} has a bad shape or offset")
    if end - begin != math.prod(shape) * DTYPES[dtype][0] or data + end > size:
        raise InvalidSource(f"{where} does not lie within the file")
    return StoredTensor(name, dtype, shape, path, data + begin)


def write(path: Path, tensors: Iterable[tuple[str, str, Array]]) -> dict[str, int]:
    """Write (name, dtype, array) one after the other, so that one array is in memory at a time; bytes by name.

    The header stands before the data and is known only at the end: the data goes to a second file first.
    """
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    sizes: dict[str, int] = {}
    body = path.with_name(path.name + ".data")
    try:
        with open(body, "w+b") as data:
            for name, dtype, array in tensors:
                begin = data.tell()
                np.ascontiguousarray(array, dtype=DTYPES[dtype][1]).tofile(data)
                table[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, data.tell()]}
                sizes[name] = data.tell() - begin
            header = json.dumps(table, separators=(",", ":")).encode()
            header += b" " * (-len(header) % 8)
            with open(path, "xb") as file:
                file.write(struct.pack("<Q", len(header)) + header)
                data.seek(0)
                while chunk := data.read(1 << 22):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
    finally:
        body.unlink(missing_ok=True)
    return sizes
