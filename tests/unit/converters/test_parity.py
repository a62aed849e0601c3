"""Every row of the architecture table against transformers, on tiny random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from converters.architectures.registry import of_class
from converters.checkpoint import Checkpoint
from converters.gguf.evaluate import Loaded
from converters.progress import Progress
from converters.to_gguf import convert
from converters.verify import kl_divergence


def run(path: Path, tokens: list[int]) -> Any:
    with Loaded(path, threads=1) as model:
        return model.logits(tokens)


@pytest.mark.parametrize("case", tiny_models.CASES)
def test_llama_cpp_computes_what_transformers_does(case: str, tmp_path: Path) -> None:
    model, tokens = tiny_models.make(case, tmp_path / "in"), tiny_models.probe()
    wanted = tiny_models.logits(model, tokens)
    convert(tmp_path / "in", tmp_path / "f32.gguf", "f32", Progress(silent=True), gate=False)
    row = of_class(Checkpoint.open(tmp_path / "in").class_name)
    assert np.abs(run(tmp_path / "f32.gguf", tokens) - wanted).max() < row.tolerance

    convert(tmp_path / "in", tmp_path / "f16.gguf", "f16", Progress(silent=True), gate=False)
    limit = 1e-3 if case in tiny_models.MOE else 1e-4
    assert kl_divergence(wanted, run(tmp_path / "f16.gguf", tokens)) < limit
