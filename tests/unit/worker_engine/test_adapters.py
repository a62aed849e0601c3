"""LoRA adapters as llama.cpp applies them: the logits are those of weights that the adapters were merged into."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray

from server.types import LoadOptions
from server.worker.backends.llamacpp.context import Context
from server.worker.backends.llamacpp.model import LoadError, Model

NANO = Path(__file__).parents[2] / "golden" / "models" / "nano.gguf"
RANK, ALPHA = 2, 4.0
# (outputs, inputs) of the matrices that the adapters change
TARGETS = {"blk.0.attn_q.weight": (64, 64), "blk.1.ffn_up.weight": (128, 64), "blk.0.ffn_down.weight": (64, 128)}
PROMPT = [1, 70, 71, 72, 73, 74]

Factors = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def random_factors(names: Sequence[str], seed: int) -> Factors:
    """Per matrix ``a`` (rank, inputs) and ``b`` (outputs, rank)."""
    rng = np.random.default_rng(seed)

    def of(*shape: int) -> NDArray[np.float32]:
        return (rng.standard_normal(shape) * 0.5).astype(np.float32)

    return {name: (of(RANK, TARGETS[name][1]), of(TARGETS[name][0], RANK)) for name in names}


def write_adapter(path: Path, factors: Factors) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for name, (a, b) in factors.items():
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def merged(path: Path, *adapters: Factors) -> Path:
    """A copy of the model whose matrices are W + alpha / rank · B A."""
    shutil.copyfile(NANO, path)
    tensors = {tensor.name: tensor for tensor in GGUFReader(path, "r+").tensors}
    for factors in adapters:
        for name, (a, b) in factors.items():
            data = tensors[name].data
            data[:] = (data.astype(np.float32) + ALPHA / RANK * (b @ a)).astype(data.dtype)
    for tensor in tensors.values():
        tensor.data.base.flush()
    return path


def logits(path: Path, *adapters: Path) -> NDArray[np.float32]:
    """Of the token after ``PROMPT``."""
    options = LoadOptions(num_batch=16, num_gpu=0)
    model = Model(str(path), options)
    try:
        for adapter in adapters:
            model.add_adapter(str(adapter))
        context = Context(model, options, window=64, sequences=1, threads=1)
        try:
            rows = len(PROMPT)
            context.batch.token[:rows] = PROMPT
            context.batch.position[:rows] = np.arange(rows)
            context.batch.output[rows - 1] = 1
            assert context.decode(rows) == 0
            return context.logits(1)[0].copy()
        finally:
            context.close()
    finally:
        model.close()


def test_an_adapter_does_what_merged_weights_do(tmp_path: Path) -> None:
    factors = random_factors(list(TARGETS), seed=1)
    plain, tuned = logits(NANO), logits(NANO, write_adapter(tmp_path / "a.gguf", factors))
    effect = np.abs(tuned - plain).max()
    assert effect > 0.1 * np.abs(plain).max()
    assert np.abs(tuned - logits(merged(tmp_path / "m.gguf", factors))).max() < 0.02 * effect


def test_two_adapters_add_up(tmp_path: Path) -> None:
    names = list(TARGETS)
    one, two = random_factors(names[:2], seed=2), random_factors(names[1:], seed=3)
    paths = [write_adapter(tmp_path / f"{i}.gguf", factors) for i, factors in enumerate((one, two))]
    both, first = logits(NANO, *paths), logits(NANO, paths[0])
    effect = np.abs(both - first).max()
    assert effect > 0.1 * np.abs(first).max()
    assert np.abs(both - logits(merged(tmp_path / "m.gguf", one, two))).max() < 0.02 * effect


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path) -> None:
    wrong = {"blk.0.attn_q.weight": (np.zeros((RANK, 32), np.float32), np.zeros((64, RANK), np.float32))}
    with pytest.raises(LoadError, match="the adapter does not fit this model"):
        logits(NANO, write_adapter(tmp_path / "a.gguf", wrong))
