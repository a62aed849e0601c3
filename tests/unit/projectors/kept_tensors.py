"""The tensors of a folder's safetensors, as a conversion reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Tensor:
    name: str
    array: np.ndarray
    path: Path
    dtype: str = "F32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def raw(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.array[start:stop]

    read = raw


def of_folder(folder: Path) -> dict[str, Tensor]:
    from safetensors.numpy import load_file

    return {
        name: Tensor(name, array, path)
        for path in sorted(folder.glob("*.safetensors"))
        for name, array in load_file(path).items()
    }
