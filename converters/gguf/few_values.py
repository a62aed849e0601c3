"""Whether a model was trained for one magnitude per block of weights: what ternary and binary types need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelfiles.gguf import Header, TensorInfo

BLOCK = {"TQ1_0": 256, "TQ2_0": 256, "Q1_0": 128, "Q2_0": 64}
Floats = NDArray[np.float32]
SAMPLES = 8
SAMPLE_BLOCKS = 16
LINEARS = (".attn_q.weight", ".attn_qkv.weight", ".attn_output.weight", ".ffn_up.weight", ".ffn_down.weight")


def has_few_values(headers: Sequence[Header], type_name: str) -> bool:
    """True when the sampled linears hold, block by block, nothing but 0, +s and -s. False for quantized sources."""
    linears = [(header, t) for header in headers for t in header.tensors if t.name.endswith(LINEARS)]
    step = max(1, len(linears) // SAMPLES)
    chosen = linears[::step]
    return bool(chosen) and all(_is_sparse_in_values(header, t, BLOCK[type_name]) for header, t in chosen)


def _is_sparse_in_values(header: Header, tensor: TensorInfo, block: int) -> bool:
    values = _first_values(header, tensor, min(tensor.elements, block * SAMPLE_BLOCKS))
    if values is None or len(values) % block:
        return False
    sizes = np.abs(values).reshape(-1, block)
    largest = sizes.max(axis=1, keepdims=True)
    return bool(np.all((sizes == 0) | (np.abs(sizes - largest) <= 1e-2 * largest)))


def _first_values(header: Header, tensor: TensorInfo, count: int) -> Floats | None:
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
    if tensor.type not in kinds:
        return None
    kind = np.dtype(kinds[tensor.type])
    with header.path.open("rb") as file:
        file.seek(header.data + tensor.offset)
        raw = np.frombuffer(file.read(count * kind.itemsize), kind)
    floats: Floats = (raw.astype(np.uint32) << 16).view(np.float32) if tensor.type == "BF16" else raw.astype(np.float32)
    return floats
