"""From a GGUF to a checkpoint that can be trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import transformers

from converters.__main__ import main
from converters.errors import OutputExists, Unsupported
from converters.from_gguf import restore
from converters.progress import Progress
from converters.safetensors import read_header
from converters.to_gguf import convert

QUIET = Progress(silent=True)
GOLDEN = Path(__file__).parents[2] / "golden" / "models"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    model = tiny_models.make("llama-3.1", folder)
    generation = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [2, 1]}
    model.generation_config.update(**generation)
    model.generation_config.save_pretrained(folder)
    return folder


def test_a_quantized_model_comes_back_verified(llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert(llama, tmp_path / "q8.gguf", "Q8_0", QUIET, gate=False)
    assert main(["from-gguf", "--in", str(tmp_path / "q8.gguf"), "--out", str(tmp_path / "back")]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    result = lines[-1]["result"]
    assert result["verified"]
    assert result["kl"] < 1e-3
    assert result["chat_tokens"] > 0
    assert json.loads((tmp_path / "back/provenance.json").read_text())["made_from"] == "q8.gguf"
    config = json.loads((tmp_path / "back/config.json").read_text())
    assert config["dtype"] == "float16"
    assert {t.dtype for t in read_header(tmp_path / "back/model.safetensors").values()} == {"F16"}
    rope = config["rope_parameters"]
    assert rope == {**tiny_models.LLAMA31, "rope_type": "llama3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "q8.gguf"]


def test_what_the_generation_config_recommends_comes_back(llama: Path, tmp_path: Path) -> None:
    convert(llama, tmp_path / "f32.gguf", "F32", QUIET, gate=False)
    restore(tmp_path / "f32.gguf", tmp_path / "back", QUIET, gate=False)
    found = transformers.GenerationConfig.from_pretrained(tmp_path / "back")
    assert (found.do_sample, found.temperature, found.top_p, found.eos_token_id) == (True, 0.6, 0.9, [2, 1])


def test_big_models_come_in_shards(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from converters import from_gguf

    monkeypatch.setattr(from_gguf, "SHARD", 100_000)
    convert(llama, tmp_path / "f32.gguf", "F32", QUIET, gate=False)
    restore(tmp_path / "f32.gguf", tmp_path / "back", QUIET, gate=False)
    index = json.loads((tmp_path / "back/model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    first, again = (transformers.AutoModelForCausalLM.from_pretrained(path) for path in (llama, tmp_path / "back"))
    for name, parameter in first.named_parameters():
        assert np.array_equal(parameter.detach().numpy(), again.get_parameter(name).detach().numpy())


def test_a_model_that_was_never_a_checkpoint_can_be_trained(tmp_path: Path) -> None:
    """One of the golden models, written by other hands."""
    restore(GOLDEN / "nano.gguf", tmp_path / "back", QUIET)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    batch = tokenizer("Hello there", return_tensors="pt")
    loss = model(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    assert loss.item() > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_nothing_is_overwritten_or_left_over(llama: Path, tmp_path: Path) -> None:
    convert(llama, tmp_path / "f32.gguf", "F32", QUIET, gate=False)
    (tmp_path / "back").mkdir()
    with pytest.raises(OutputExists):
        restore(tmp_path / "f32.gguf", tmp_path / "back", QUIET)
    (tmp_path / "back").rmdir()
    data = (tmp_path / "f32.gguf").read_bytes()
    key = b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0"
    (tmp_path / "odd.gguf").write_bytes(data.replace(key + b"llama", key + b"mamba"))
    with pytest.raises(Unsupported, match='a GGUF of the architecture "mamba" cannot be taken back'):
        restore(tmp_path / "odd.gguf", tmp_path / "back", QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f32.gguf", "odd.gguf"]
