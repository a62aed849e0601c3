"""A tiny model in two files, as llama.cpp splits: all metadata in the first, half of the tensors in each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

NANO = Path(__file__).parents[1] / "golden" / "models" / "nano.gguf"


def split_nano(folder: Path, prefix: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(NANO)
    paths = []
    for number, tensors in enumerate((reader.tensors[:9], reader.tensors[9:])):
        path = folder / f"{prefix}-{number + 1:05d}-of-00002.gguf"
        writer = GGUFWriter(path, "llama")
        for field in reader.fields.values() if number == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                kinds = field.types
                writer.add_key_value(field.name, field.contents(), kinds[0], kinds[1] if len(kinds) > 1 else None)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths
