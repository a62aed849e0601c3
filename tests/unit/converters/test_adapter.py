"""PEFT folders become GGUF adapters that compute the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from converters.errors import ConverterError
from converters.gguf.adapter import convert
from converters.gguf.evaluate import Loaded
from converters.progress import Progress
from converters.safetensors import read_header, write
from converters.to_gguf import convert as to_gguf

peft = pytest.importorskip("peft", reason="needs the train extra")
# peft 0.21 asks transformers 5.24 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
QUIET = Progress(silent=True)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"r": 4, "lora_alpha": 8, "target_modules": LINEAR}),
    ("llama", {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "use_rslora": True}),
    ("qwen3", {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "rank_pattern": {"q_proj": 8},
               "alpha_pattern": {"up_proj": 32}}),
    ("gemma3", {"r": 2, "lora_alpha": 2, "target_modules": LINEAR}),
    ("phi3", {"r": 4, "lora_alpha": 4, "target_modules": ["qkv_proj", "gate_up_proj"]}),
    ("gpt2", {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    ("gptneox", {"r": 4, "lora_alpha": 8, "target_modules": ["query_key_value", "dense"]}),
]  # fmt: skip


def make(case: str, folder: Path, **settings: Any) -> Any:
    """A base in ``folder/base`` and an adapter with random matrices in ``folder/lora``; the model with both."""
    model = tiny_models.make(case, folder / "base")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    wrapped.save_pretrained(folder / "lora")
    to_gguf(folder / "base", folder / "base.gguf", "F32", QUIET, gate=False)
    return wrapped


@pytest.mark.parametrize(("case", "settings"), CASES)
def test_the_adapter_computes_what_peft_does(case: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model, tokens = make(case, tmp_path, **settings), tiny_models.probe()
    wanted = tiny_models.logits(model, tokens)
    findings = convert(tmp_path / "lora", tmp_path / "base.gguf", tmp_path / "lora.gguf", QUIET)
    assert findings["verified"]
    assert findings["max_logit_change"] > 0.01
    with Loaded(tmp_path / "base.gguf", threads=1) as base:
        base.attach(tmp_path / "lora.gguf")
        found = base.logits(tokens)
    assert np.abs(found - wanted).max() < (5e-3 if case in ("gemma3", "gpt2", "gptneox") else 5e-5)


def change(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, '"IA3" cannot be written as GGUF; merge it'),
        ({"use_dora": True}, "DoRA adapters cannot be written"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "the adapter trained biases"),
        ({"lora_alpha": None}, "no lora_alpha"),
    ],
)
def test_what_a_gguf_adapter_cannot_say_is_named(tmp_path: Path, fields: Any, message: str) -> None:
    make("llama", tmp_path, r=4, lora_alpha=8, target_modules=["q_proj"])
    change(tmp_path / "lora", **fields)
    with pytest.raises(ConverterError, match=message):
        convert(tmp_path / "lora", tmp_path / "base.gguf", tmp_path / "lora.gguf", QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "base.gguf", "lora"]


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    make("llama", tmp_path, r=4, lora_alpha=8, target_modules=["q_proj"])
    weights = tmp_path / "lora/adapter_model.safetensors"
    grown = [(t.name, "F32", np.tile(t.read(), (1, 2)) if "lora_A" in t.name else t.read())
             for t in read_header(weights).values()]  # fmt: skip
    weights.unlink()
    write(weights, grown)
    with pytest.raises(ConverterError, match="the adapter is for another model"):
        convert(tmp_path / "lora", tmp_path / "base.gguf", tmp_path / "lora.gguf", QUIET)
