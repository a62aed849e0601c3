"""Tensors of a GGUF as numpy arrays, dequantized where they are not plain. One at a time, from the mapped file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import InvalidSource, UnsupportedType
from converters.gguf.encode import NUMBERS
from converters.gguf.metadata import Metadata
from modelfiles import gguf
from modelfiles.errors import GGUFError
from modelfiles.gguf import Header, TensorInfo
from modelfiles.gguf_types import SplitName

Array = NDArray[np.float32]


class Reader:
    """All files of a model. ``metadata`` is the first one's."""

    def __init__(self, path: Path) -> None:
        self._headers = read_parts(path)
        self.metadata = Metadata.of(self._headers[0])
        self._where: dict[str, tuple[Header, TensorInfo]] = {
            tensor.name: (header, tensor) for header in self._headers for tensor in header.tensors
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def type(self, name: str) -> str:
        return self._where[name][1].type

    def shape(self, name: str) -> tuple[int, ...]:
        return self._where[name][1].shape[::-1]

    def nbytes(self, name: str) -> int:
        return self._where[name][1].nbytes

    def read(self, name: str) -> Array:
        """The values as float32. UnsupportedType for a type that cannot be decoded."""
        header, tensor = self._where[name]
        raw: NDArray[Any] = np.memmap(header.path, np.uint8, "r", header.data + tensor.offset, (tensor.nbytes,))
        return decode(raw, tensor.type, tensor.shape[::-1])


def decode(raw: NDArray[Any], type_name: str, shape: tuple[int, ...]) -> Array:
    if type_name == "F32":
        return np.array(raw.view(np.float32)).reshape(shape)
    if type_name == "F16":
        return raw.view(np.float16).astype(np.float32).reshape(shape)
    if type_name == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    import gguf as package

    try:
        kind = package.GGMLQuantizationType(NUMBERS[type_name])
        rows = raw.reshape(*shape[:-1], -1)
        return np.asarray(package.quants.dequantize(rows, kind), np.float32).reshape(shape)
    except (NotImplementedError, ValueError):
        raise UnsupportedType(f"tensors of the type {type_name} cannot be decoded") from None


def read_parts(source: Path) -> list[Header]:
    """The headers of all files of the model. InvalidSource when one is missing or bad."""
    split = SplitName.parse(source.name)
    paths = [source.with_name(split.file(n + 1)) for n in range(split.count)] if split else [source]
    try:
        return [gguf.read_header(path) for path in paths]
    except GGUFError as error:
        raise InvalidSource(str(error)) from None
    except OSError as error:
        raise InvalidSource(f"cannot read the model: {(error.strerror or 'input/output error').lower()}") from error
