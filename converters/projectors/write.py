"""Writes a projector GGUF, one tensor in memory at a time; it has its name only when it is whole and durable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np

from converters.dequant.stored import Floats, Stored
from converters.errors import InvalidSource, OutputExists, UnsupportedType
from converters.projectors.table import Projector, Step, Value

TYPES = {"F32": 0, "F16": 1}


def write(
    projector: Projector, tensors: Mapping[str, Stored], out: Path, type_name: str = "F16", name: str = ""
) -> None:
    """``tensors``: all of the checkpoint. ``type_name``: F16 or F32, of the matrices; the rest is F32."""
    if type_name not in TYPES:
        raise UnsupportedType(f"projectors are written as F16 or F32, not {type_name}")
    if os.path.lexists(out):
        raise OutputExists("the destination exists already; choose another name or remove it")
    outputs = list(projector.outputs(tensors))
    if not outputs:
        raise InvalidSource("the checkpoint has no vision tower")
    temporary = out.with_name(f"{out.name}.partial")
    writer = gguf.GGUFWriter(temporary, "clip")
    try:
        _add_keys(writer, projector, type_name, name)
        for names, stored, step in outputs:
            for at, made in enumerate(_made(stored, step, len(names))):
                dtype = _dtype(names[at], made, projector, type_name)
                writer.add_tensor_info(names[at], made.shape, dtype, made.size * dtype.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for names, stored, step in outputs:
            for at, made in enumerate(_made(stored, step, len(names))):
                writer.write_tensor_data(made.astype(_dtype(names[at], made, projector, type_name)))
        writer.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.rename(temporary, out)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _made(stored: Stored, step: Step, count: int) -> tuple[Floats, ...]:
    arrays = step(stored.read())
    if len(arrays) != count:
        raise InvalidSource(f'tensor "{stored.name}" is not what the table says')
    return tuple(np.ascontiguousarray(array) for array in arrays)


def _dtype(
    name: str, array: Floats, projector: Projector, type_name: str
) -> np.dtype[np.float32] | np.dtype[np.float16]:
    plain = array.ndim < 2 or name in projector.f32 or type_name == "F32"
    return np.dtype(np.float32) if plain else np.dtype(np.float16)


def _add_keys(writer: gguf.GGUFWriter, projector: Projector, type_name: str, name: str) -> None:
    writer.add_type("mmproj")
    if name:
        writer.add_name(name)
    writer.add_file_type(TYPES[type_name])
    keys: dict[str, Value] = {"clip.has_vision_encoder": True, "clip.projector_type": projector.type}
    for key, value in (keys | dict(projector.keys)).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
