"""Checkpoints that are quantized already: the GGUF is that of the plain weights which they stand for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from converters.dequant.numbers import float8
from converters.errors import InvalidSource
from converters.progress import Progress
from converters.safetensors import read_header, write
from converters.to_gguf import convert
from modelfiles.gguf import read_header as read_gguf

QUIET = Progress(silent=True)
BLOCK = 32


def tensors_of(path: Path) -> dict[str, bytes]:
    header, data = read_gguf(path), path.read_bytes()
    return {t.name: data[header.data + t.offset :][: t.nbytes] for t in header.tensors}


def as_float8(folder: Path, out: Path, plain: Path) -> None:
    """``out``: the linears of ``folder`` as DeepSeek's FP8 with a scale per block; ``plain``: what they stand for."""
    values = np.nan_to_num(float8("F8_E4M3"), nan=0.0)
    order = np.argsort(values)
    packed, floats = [], []
    for tensor in read_header(folder / "model.safetensors").values():
        array = tensor.read()
        if ".layers." not in tensor.name or array.ndim != 2 or array.shape[0] % BLOCK:  # such as a router
            packed.append((tensor.name, "F32", array))
            floats.append((tensor.name, "F32", array))
            continue
        rows, columns = array.shape
        blocks = array.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scales = np.abs(blocks).max((1, 3), keepdims=True) / np.float32(448)
        bits = order[np.searchsorted(values[order], blocks / scales).clip(0, 255)].astype(np.uint8)
        packed.append((tensor.name, "F8_E4M3", bits.reshape(rows, columns)))
        packed.append((f"{tensor.name}_scale_inv", "F32", scales.reshape(rows // BLOCK, columns // BLOCK)))
        floats.append((tensor.name, "F32", (values[bits] * scales).reshape(rows, columns)))
    for target, tensors in ((out, packed), (plain, floats)):
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors"))
        write(target / "model.safetensors", tensors)
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}
    (out / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("case", ["llama", "qwen3moe"])
def test_fp8_becomes_what_its_plain_weights_become(case: str, tmp_path: Path) -> None:
    tiny_models.make(case, tmp_path / "in")
    as_float8(tmp_path / "in", tmp_path / "fp8", tmp_path / "plain")
    convert(tmp_path / "fp8", tmp_path / "a.gguf", "F32", QUIET, gate=False)
    convert(tmp_path / "plain", tmp_path / "b.gguf", "F32", QUIET, gate=False)
    assert tensors_of(tmp_path / "a.gguf") == tensors_of(tmp_path / "b.gguf")


def test_the_gate_says_what_it_could_not_compare(tmp_path: Path) -> None:
    """transformers loads some quantized checkpoints on a GPU only: then that check is named, not failed."""
    tiny_models.make("llama", tmp_path / "in")
    as_float8(tmp_path / "in", tmp_path / "fp8", tmp_path / "plain")
    findings = convert(tmp_path / "fp8", tmp_path / "a.gguf", "Q8_0", QUIET)
    assert findings["verified"]
    assert "kl" in findings or "transformers cannot load the checkpoint" in findings["skipped"]["logits"]


def test_a_scale_that_is_missing_is_named(tmp_path: Path) -> None:
    tiny_models.make("llama", tmp_path / "in")
    as_float8(tmp_path / "in", tmp_path / "fp8", tmp_path / "plain")
    weights = tmp_path / "fp8/model.safetensors"
    kept = [(t.name, t.dtype, t.raw()) for t in read_header(weights).values() if "q_proj.weight_scale" not in t.name]
    weights.unlink()
    write(weights, kept)
    with pytest.raises(InvalidSource, match="lacks the tensor"):
        convert(tmp_path / "fp8", tmp_path / "a.gguf", "F32", QUIET)
