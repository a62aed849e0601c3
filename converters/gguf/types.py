"""Which type each tensor gets: llama.cpp's own choice, asked for with a file that has names and shapes but no data.

A dry run of ``llama_model_quantize`` prints the type of every tensor; the file is sparse and takes no space.
"""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from converters.errors import UnsupportedType
from converters.gguf.library import Log, lib
from converters.gguf.metadata import Metadata
from converters.gguf.write import Planned, write_sparse
from modelfiles.gguf_types import FILE_TYPES

PLAIN = ("F32", "F16", "BF16")
FTYPES = {name: number for number, name in FILE_TYPES.items()}
LINE = re.compile(r"\[ *\d+/ *\d+\] +(\S+) .*\((\S+)\)")
# Read as float32 whatever the type of the rest.
ALWAYS_F32 = re.compile(r"_norm|\.bias$|ffn_gate_inp|position_embd|token_types|rope_|_norm_enc|altup|conv1d|ssm_")


def plain_types(shapes: Mapping[str, tuple[int, ...]], wanted: str) -> dict[str, str]:
    """F32, F16 or BF16 for matrices; what llama.cpp reads as F32 stays F32."""
    return {name: "F32" if len(shape) < 2 or ALWAYS_F32.search(name) else wanted for name, shape in shapes.items()}


def choose(path: Path, metadata: Metadata, tensors: Sequence[Planned], wanted: str) -> dict[str, str]:
    """The type of every tensor for the file type ``wanted``. ``path``: where a sparse file may stand for a moment.

    UnsupportedType when llama.cpp cannot make it, for example for want of an importance matrix.
    """
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    if wanted in PLAIN:
        return plain_types(shapes, wanted)
    kinds = plain_types(shapes, "F32")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".types-") as folder:
        sketch = Path(folder) / "sketch.gguf"
        write_sparse(sketch, metadata, [replace(tensor, type=kinds[tensor.name]) for tensor in tensors])
        params = lib.llama_model_quantize_default_params()
        params.ftype, params.dry_run = FTYPES[wanted], True
        with Log() as log:
            status = lib.llama_model_quantize(
                os.fsencode(sketch), os.fsencode(Path(folder) / "none.gguf"), ctypes.byref(params)
            )
        if status != 0:
            raise UnsupportedType(f"llama.cpp cannot quantize this model to {wanted}: {log.reason(sketch)}")
    for line in log.lines:
        if match := LINE.match(line):
            kinds[match[1]] = match[2].upper()
    return kinds
