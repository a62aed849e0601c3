"""Importance matrices on disk: llama.cpp's GGUF form (read and written) and its older ``.dat`` form (read).

For each weight the sum of the squares of what was multiplied with each of its columns, and over how many rows:
``<tensor>.in_sum2`` of (experts, columns) and ``<tensor>.counts`` of (experts, 1). Format: llama.cpp's
``tools/imatrix``. Both forms come from outside, so nothing is believed that the size of the file does not allow.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf as gguf_py
import numpy as np
from numpy.typing import NDArray

from converters.errors import InvalidSource, OutputExists
from modelfiles import gguf
from modelfiles.errors import GGUFError

SUMS, COUNTS = ".in_sum2", ".counts"
MAGIC = b"GGUF"
MAX_DAT = 1 << 32
MAX_ENTRIES = 1 << 16
MAX_NAME = 255
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Entry:
    """``sums``: (experts, columns) of squares; ``counts``: (experts,) rows that went into them. Dense weights have
    one expert."""

    sums: Floats
    counts: Floats

    def means(self) -> Floats:
        """(experts · columns,) as llama.cpp's quantizer wants them; experts that were never asked count evenly."""
        seen = self.counts[:, None] > 0
        return np.where(seen, self.sums / np.maximum(self.counts[:, None], 1), 1).astype(np.float32).ravel()


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """``chunks`` of ``chunk_size`` tokens were read; ``datasets`` says of what."""

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    chunk_size: int = 0

    @property
    def silent_experts(self) -> int:
        """Experts that no token was routed to: nothing is known of them."""
        return sum(int((entry.counts == 0).sum()) for entry in self.entries.values())


def write(matrix: ImportanceMatrix, out: Path) -> None:
    """OutputExists rather than overwrite; synced, and under its name only when it is whole."""
    if os.path.lexists(out):
        raise OutputExists("the destination exists already; choose another name or remove it")
    temporary = out.with_name(f"{out.name}.partial")
    writer = gguf_py.GGUFWriter(temporary, "imatrix")
    del writer.kv_data[0]["general.architecture"]  # llama.cpp writes none here
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", list(matrix.datasets) or [""])
    writer.add_uint32("imatrix.chunk_count", matrix.chunks)
    writer.add_uint32("imatrix.chunk_size", matrix.chunk_size)
    for name, entry in sorted(matrix.entries.items()):
        writer.add_tensor(name + SUMS, np.ascontiguousarray(entry.sums, np.float32))
        writer.add_tensor(name + COUNTS, np.ascontiguousarray(entry.counts[:, None], np.float32))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.rename(temporary, out)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def read(path: Path) -> ImportanceMatrix:
    """Either form, known by its first bytes. InvalidSource."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                return _check(_read_dat(path))
        return _check(_read_gguf(path))
    except GGUFError as error:
        raise InvalidSource(f"the importance matrix cannot be read: {error}") from None
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise InvalidSource(f"the importance matrix cannot be read: {reason}") from error


def _read_gguf(path: Path) -> ImportanceMatrix:
    header = gguf.read_header(path)
    if header.text("general.type") != "imatrix":
        raise InvalidSource("the file given as importance matrix is a GGUF of another kind")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    entries: dict[str, Entry] = {}
    with path.open("rb") as file:
        for name, tensor in tensors.items():
            if not name.endswith(SUMS):
                continue
            counts = tensors.get(name.removesuffix(SUMS) + COUNTS)
            if counts is None or tensor.type != "F32" or counts.type != "F32" or tensor.elements % counts.elements:
                raise InvalidSource(f"the importance matrix is damaged: {name} and its counts do not fit")
            sums = _floats(file, header.data + tensor.offset, tensor.nbytes)
            rows = _floats(file, header.data + counts.offset, counts.nbytes)
            entries[name.removesuffix(SUMS)] = Entry(sums.reshape(len(rows), -1), rows)
    datasets = header.metadata.get("imatrix.datasets")
    names = datasets.values() if isinstance(datasets, gguf.GGUFArray) and datasets.type == "string" else []
    chunks, size = header.integer("imatrix.chunk_count") or 0, header.integer("imatrix.chunk_size") or 0
    return ImportanceMatrix(entries, tuple(map(str, names)), chunks, size)


def _floats(file: Any, offset: int, nbytes: int) -> Floats:
    file.seek(offset)
    return np.frombuffer(file.read(nbytes), np.float32)


def _read_dat(path: Path) -> ImportanceMatrix:
    """count, then per entry: length, name, calls, n, n floats (the sums of ``calls`` means); calls; length, dataset."""
    if path.stat().st_size > MAX_DAT:
        raise InvalidSource("the file given as importance matrix is too big to be one")
    data = path.read_bytes()
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        if count < 0 or at + count > len(data):
            raise InvalidSource("the file given as importance matrix is none, or is cut short")
        at += count
        return data[at - count : at]

    def integer() -> int:
        return int(struct.unpack("<i", take(4))[0])

    def text(limit: int) -> str:
        length = integer()
        return take(length if length <= limit else -1).decode("utf-8", "replace")

    count = integer()
    entries: dict[str, Entry] = {}
    for _ in range(count if 0 < count <= MAX_ENTRIES else -1):
        name, calls, values = text(MAX_NAME), integer(), integer()
        sums = np.frombuffer(take(4 * values), np.float32)
        entries[name] = Entry(sums[None, :], np.array([max(calls, 1)], np.float32))
    chunks, dataset = 0, ""
    if at < len(data):  # what old versions left out
        chunks, dataset = integer(), text(4096)
    return ImportanceMatrix(entries, (dataset,) if dataset else (), chunks)


def _check(matrix: ImportanceMatrix) -> ImportanceMatrix:
    if not matrix.entries:
        raise InvalidSource("the file given as importance matrix holds no entries")
    for name, entry in matrix.entries.items():
        if not (np.isfinite(entry.sums).all() and np.isfinite(entry.counts).all()):
            raise InvalidSource(f"the importance matrix holds a value for {name} that is no number")
    return matrix
