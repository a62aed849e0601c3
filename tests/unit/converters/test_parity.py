"""Every row of the architecture table against transformers, on tiny random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import transformers

from converters.architectures.registry import of_class
from converters.checkpoint import Checkpoint
from converters.from_gguf import restore
from converters.gguf.evaluate import Loaded
from converters.progress import Progress
from converters.safetensors import read_header
from converters.to_gguf import convert
from converters.torture import TORTURE
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


def weights(folder: Path) -> dict[str, Any]:
    return {name: tensor.read() for path in folder.glob("*.safetensors") for name, tensor in read_header(path).items()}


@pytest.mark.parametrize("case", tiny_models.CASES)
def test_there_and_back_every_bit_is_the_same(case: str, tmp_path: Path) -> None:
    model, tokens = tiny_models.make(case, tmp_path / "in"), tiny_models.probe()
    convert(tmp_path / "in", tmp_path / "f32.gguf", "f32", Progress(silent=True), gate=False)
    restore(tmp_path / "f32.gguf", tmp_path / "back", Progress(silent=True), gate=False)
    before, after = weights(tmp_path / "in"), weights(tmp_path / "back")
    assert before.keys() == after.keys()
    for name, array in before.items():
        if case.startswith("gemma") and name.endswith("norm.weight"):
            assert np.abs(array - after[name]).max() <= 6e-8
        else:
            assert np.array_equal(array, after[name]), name
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype="float32").eval()
    assert type(again) is type(model) or case == "mistral"
    assert np.abs(tiny_models.logits(again, tokens) - tiny_models.logits(model, tokens)).max() < 1e-5
    old, new = (transformers.AutoTokenizer.from_pretrained(tmp_path / name) for name in ("in", "back"))
    assert new(TORTURE).input_ids == old(TORTURE).input_ids
    assert (new.chat_template, new.eos_token, new.bos_token) == (old.chat_template, old.eos_token, old.bos_token)
