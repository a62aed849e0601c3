"""Writes a GGUF: metadata, tensor descriptions, then tensor after tensor in pieces, so that memory stays bounded.

The file has its name only when it is whole and durable. Format: ggml's ``docs/gguf.md``, version 3.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from converters.errors import ConversionFailed
from converters.gguf.encode import NUMBERS, tensor_type
from converters.gguf.metadata import Metadata
from modelfiles.gguf_types import MAGIC

ALIGNMENT = 32
VERSION = 3
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor to be written: ``shape`` in numpy's order; ``pieces`` are its encoded bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    pieces: Callable[[], Iterator[bytes]]

    @property
    def nbytes(self) -> int:
        kind = tensor_type(self.type)
        return math.prod(self.shape) // kind.block * kind.size


def write(path: Path, metadata: Metadata, tensors: Sequence[Planned], report: Report) -> dict[str, int]:
    """Writes ``path`` (which must not exist), durable. Where the pair of each key begins, for ``patch``."""
    with open(path, "xb") as file:
        places = _head(file, metadata, tensors)
        done, total = 0, sum(tensor.nbytes for tensor in tensors)
        for tensor in tensors:
            written = 0
            for piece in tensor.pieces():
                file.write(piece)
                written += len(piece)
                report(done + written, total + 1)  # the end is told when all is on the disk
            if written != tensor.nbytes:
                raise ConversionFailed(f"tensor {tensor.name} came out as {written} bytes, not {tensor.nbytes}")
            file.write(b"\0" * (-written % ALIGNMENT))
            done += written
        file.flush()
        os.fsync(file.fileno())
        report(total + 1, total + 1)
    return places


def write_sparse(path: Path, metadata: Metadata, tensors: Sequence[Planned]) -> None:
    """The same file with holes for data: what llama.cpp makes of names and shapes can be asked with it."""
    with open(path, "xb") as file:
        _head(file, metadata, tensors)
        size = sum(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors)
        file.truncate(file.tell() + size)


def _head(file: BinaryIO, metadata: Metadata, tensors: Sequence[Planned]) -> dict[str, int]:
    file.write(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata)))
    places: dict[str, int] = {}
    for key, pair in metadata.encoded():
        places[key] = file.tell()
        file.write(pair)
    offset = 0
    for tensor in tensors:
        name = tensor.name.encode()
        file.write(struct.pack("<Q", len(name)) + name + struct.pack("<I", len(tensor.shape)))
        file.write(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape[::-1]))
        file.write(struct.pack("<IQ", NUMBERS[tensor.type], offset))
        offset += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    file.write(b"\0" * (-file.tell() % ALIGNMENT))
    return places


def patch(path: Path, place: int, key: str, text: str, room: int) -> None:
    """Overwrite the string value of ``key`` by ``text``, filled with blanks to the ``room`` bytes it was given."""
    raw = text.encode()
    if len(raw) > room:
        raise ConversionFailed(f"{key} needs {len(raw)} bytes and was given {room}")
    with open(path, "r+b") as file:
        file.seek(place + 8 + len(key.encode()) + 4 + 8)
        file.write(raw.ljust(room))
        file.flush()
        os.fsync(file.fileno())
