"""What the formats take and give: tensors of a checkpoint, as far as they are needed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from converters.errors import InvalidSource

Array = NDArray[Any]
Floats = NDArray[np.float32]


class Stored(Protocol):
    """A tensor of a safetensors file. ``dtype`` is safetensors' name: ``F16``, ``I32``, ``F8_E4M3`` …"""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def path(self) -> Path: ...
    def raw(self, start: int = 0, stop: int | None = None) -> Array:
        """Rows of the first dimension in the file's own number type; BF16 and 8-bit floats as their bits."""

    def read(self, start: int = 0, stop: int | None = None) -> Floats:
        """The same rows as float32; only of F32, F16, BF16 and F64."""


@dataclass(frozen=True, slots=True)
class Dequantized:
    """A linear's weight, (out, in) like any stored one. ``rows(start, stop)`` computes those of the first dimension."""

    name: str
    shape: tuple[int, ...]
    path: Path
    rows: Callable[[int, int], Floats]
    dtype: str = "F32"

    def read(self, start: int = 0, stop: int | None = None) -> Floats:
        stop = self.shape[0] if stop is None else stop
        if start >= stop:
            return np.empty((0, *self.shape[1:]), np.float32)
        made = self.rows(start, stop)
        if not np.isfinite(made).all():
            raise InvalidSource(f'tensor "{self.name}" is damaged: dequantized, it holds values that are no numbers')
        return np.ascontiguousarray(made, np.float32)

    raw = read


class Dequantizer(Protocol):
    """One way of quantizing, with the settings of one checkpoint."""

    @property
    def name(self) -> str:
        """What people call it: ``GPTQ``."""

    def plain(self, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
        """All tensors, with one ``….weight`` in the place of the parts of each quantized linear; what was not
        quantized is handed through. InvalidSource when parts are missing or do not fit; Unsupported when they are of
        a kind that is not known."""


def replaced(tensors: Mapping[str, Stored], made: Iterable[Dequantized], gone: Iterable[str]) -> dict[str, Stored]:
    """``tensors`` without the names that are ``gone``, and with what was made of them."""
    left = set(gone)
    found: dict[str, Stored] = {name: tensor for name, tensor in tensors.items() if name not in left}
    for weight in made:
        if weight.name in found:
            raise InvalidSource(f'tensor "{weight.name}" is there both quantized and plain')
        found[weight.name] = weight
    return found


def ending(tensors: Mapping[str, Stored], suffix: str) -> dict[str, Stored]:
    """The tensors whose name ends so, by the name without it: ``model.layers.0.mlp.up_proj``."""
    return {name.removesuffix(suffix): tensor for name, tensor in tensors.items() if name.endswith(suffix)}


def part(tensors: Mapping[str, Stored], name: str) -> Stored:
    if name not in tensors:
        raise InvalidSource(f'the quantized checkpoint lacks the tensor "{name}"')
    return tensors[name]


def check_shape(tensor: Stored, *shapes: tuple[int, ...]) -> None:
    if tensor.shape not in shapes:
        expected = " or ".join(str(list(shape)) for shape in shapes)
        raise InvalidSource(f'tensor "{tensor.name}" has the shape {list(tensor.shape)}, expected {expected}')


def scalar(tensor: Stored) -> np.float32:
    """The value of a tensor with one element, of whatever dimensions."""
    values = tensor.read().reshape(-1)
    if len(values) != 1:
        raise InvalidSource(f'tensor "{tensor.name}" must hold one number')
    return np.float32(values[0])
