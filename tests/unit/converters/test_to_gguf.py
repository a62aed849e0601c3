"""From a checkpoint to a GGUF: types, bytes, shards, refusals, the verify gate."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from converters import to_gguf, verify
from converters.__main__ import main
from converters.checkpoint import Checkpoint
from converters.errors import ConverterError, InvalidSource, OutputExists, Unsupported, VerificationFailed
from converters.gguf.quantize import quantize
from converters.gguf.read import Reader
from converters.progress import Progress
from converters.safetensors import read_header as read_tensors
from converters.safetensors import write as write_tensors
from converters.to_gguf import convert
from modelfiles.gguf import read_header

QUIET = Progress(silent=True)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_models.make("llama", folder)
    return folder


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(llama, tmp_path / "in"))


def change(folder: Path, name: str, **fields: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({k: v for k, v in {**content, **fields}.items() if v is not None}))


def rewrite(folder: Path, alter: Any) -> None:
    """The same weights after ``alter(name, array) -> array or None``."""
    source = folder / "model.safetensors"
    kept = [(t.name, "F32", alter(t.name, t.read())) for t in read_tensors(source).values()]
    source.unlink()
    write_tensors(source, [entry for entry in kept if entry[2] is not None])


def raw_tensors(path: Path) -> dict[str, bytes]:
    header = read_header(path)
    data = path.read_bytes()
    return {t.name: data[header.data + t.offset :][: t.nbytes] for t in header.tensors}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of a length that K-quants need."""
    folder = tmp_path_factory.mktemp("wide")
    tiny_models.make("llama", folder, config={"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4})
    return folder


@pytest.mark.parametrize("kind", ["Q4_K_M", "Q8_0", "Q5_1", "BF16", "IQ4_NL", "Q2_K"])
def test_the_bytes_are_those_of_llama_cpps_own_quantizer(wide: Path, tmp_path: Path, kind: str) -> None:
    llama = wide
    convert(llama, tmp_path / "f32.gguf", "F32", QUIET, gate=False)
    quantize(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", kind, lambda done, total: None)
    convert(llama, tmp_path / "ours.gguf", kind, QUIET, gate=False)
    assert raw_tensors(tmp_path / "ours.gguf") == raw_tensors(tmp_path / "theirs.gguf")
    assert read_header(tmp_path / "ours.gguf").file_type == kind
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f32.gguf", "ours.gguf", "theirs.gguf"]


def test_shards_make_the_same_file(llama: Path, tmp_path: Path) -> None:
    tiny_models.make("llama", tmp_path / "sharded", max_shard_size="100KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    convert(llama, tmp_path / "one.gguf", "F16", QUIET, gate=False, name="m")
    convert(tmp_path / "sharded", tmp_path / "two.gguf", "F16", QUIET, gate=False, name="m")
    assert raw_tensors(tmp_path / "one.gguf") == raw_tensors(tmp_path / "two.gguf")
    next(iter((tmp_path / "sharded").glob("*.safetensors"))).unlink()
    with pytest.raises(InvalidSource, match=r"the shard model-\d+-of-\d+\.safetensors is missing"):
        convert(tmp_path / "sharded", tmp_path / "three.gguf", "F16", QUIET)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_sources_lose_nothing(llama: Path, tmp_path: Path, dtype: str) -> None:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=getattr(torch, dtype))
    model.save_pretrained(tmp_path / "in")
    tiny_models.bpe(tiny_models.QWEN2).save_pretrained(tmp_path / "in")
    kind = "BF16" if dtype == "bfloat16" else "F16"
    convert(tmp_path / "in", tmp_path / "out.gguf", kind, QUIET, gate=False)
    found = Reader(tmp_path / "out.gguf").read("token_embd.weight")
    assert np.array_equal(found, model.model.embed_tokens.weight.float().detach().numpy())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": ["FooForCausalLM"]}, 'unsupported architecture "FooForCausalLM" - supported are .*Llama'),
        ({"architectures": None}, "names no architecture"),
        ({"hidden_act": "relu"}, '"hidden_act": relu cannot be expressed'),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 'RoPE scaling "dynamic" cannot be expressed'),
        ({"rope_parameters": {"rope_type": "yarn"}}, 'the RoPE scaling "yarn" lacks "factor"'),
        ({"quantization_config": {"quant_method": "foo"}}, 'checkpoints quantized with "foo" cannot be converted'),
        ({"hidden_size": "many"}, '"hidden_size" cannot be many: it must be a u32'),
        ({"num_hidden_layers": 3}, "config.json says 3 layers, the weights have 2"),
        ({"vocab_size": None}, 'config.json lacks "vocab_size"'),
    ],
)
def test_what_cannot_be_converted_is_named(copy: Path, tmp_path: Path, fields: Any, message: str) -> None:
    change(copy, "config.json", **fields)
    with pytest.raises(ConverterError, match=message):
        convert(copy, tmp_path / "out.gguf", "F16", QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_tensors_without_a_place_are_refused(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, lambda name, array: array)
    extra = copy / "model-extra.safetensors"
    write_tensors(extra, [("model.layers.0.strange.weight", "F32", np.ones((2, 2), np.float32))])
    with pytest.raises(Unsupported, match=r'1 tensors have no place .* "model\.layers\.0\.strange\.weight"'):
        convert(copy, tmp_path / "out.gguf", "F16", QUIET)


def test_values_that_are_no_numbers_are_refused(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, lambda name, array: array * np.nan if name == "model.layers.1.mlp.up_proj.weight" else array)
    with pytest.raises(ConverterError, match="not finite numbers"):
        convert(copy, tmp_path / "out.gguf", "F16", QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_f16_cannot_hold_is_said(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, lambda name, array: array + 1e5 if name == "lm_head.weight" else array)
    with pytest.raises(ConverterError, match="choose BF16 or F32"):
        convert(copy, tmp_path / "out.gguf", "F16", QUIET)


def test_nothing_is_overwritten(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_text("mine")
    with pytest.raises(OutputExists):
        convert(llama, tmp_path / "out.gguf", "F16", QUIET)
    assert (tmp_path / "out.gguf").read_text() == "mine"


# -- the verify gate ------------------------------------------------------------------------------------


def test_the_findings_are_told_and_kept_in_the_file(
    llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["to-gguf", "--in", str(llama), "--out", str(tmp_path / "out.gguf"), "--type", "f32"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["status"] for line in lines if "status" in line] == ["converting model", "verifying conversion"]
    result = lines[-1]["result"]
    assert result["verified"]
    assert result["skipped"] == {}
    assert result["kl"] < 1e-9
    assert result["chat_tokens_equal"] == result["chat_tokens"] > 0
    assert result["tokens"] > 500
    kept = read_header(tmp_path / "out.gguf").text(to_gguf.VERIFICATION)
    assert json.loads(kept or "") == result


@pytest.mark.parametrize("kind", ["F32", "F16"])
@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight"])
def test_rows_in_another_order_do_not_pass(llama: Path, copy: Path, tmp_path: Path, kind: str, name: str) -> None:
    from converters.architectures.steps import to_halves

    rewrite(copy, lambda tensor, array: to_halves(array, 2) if tensor == name else array)
    convert(copy, tmp_path / "wrong.gguf", kind, QUIET, gate=False)
    with pytest.raises(VerificationFailed, match="KL divergence"):
        verify.verify(llama, tmp_path / "wrong.gguf")


def test_another_tokenizer_does_not_pass(tmp_path: Path) -> None:
    llama = tmp_path / "in"
    tiny_models.make("llama", llama, config={"vocab_size": 2048})
    convert(llama, tmp_path / "out.gguf", "F32", QUIET, gate=False)
    data = (tmp_path / "out.gguf").read_bytes()
    assert data.count(b"qwen2") == 1
    (tmp_path / "out.gguf").write_bytes(data.replace(b"qwen2", b"gpt-2"))
    with pytest.raises(VerificationFailed, match="another one than the original tokenizer's, near"):
        verify.verify(llama, tmp_path / "out.gguf")


def test_a_failed_gate_leaves_nothing(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, path: Path) -> None:
        assert path.exists()
        raise VerificationFailed("no")

    monkeypatch.setattr(verify, "verify", fail)
    with pytest.raises(VerificationFailed):
        convert(llama, tmp_path / "out.gguf", "F16", QUIET)
    assert not list(tmp_path.iterdir())


def test_a_file_that_takes_llama_cpp_down_is_an_answer(llama: Path, tmp_path: Path) -> None:
    convert(llama, tmp_path / "out.gguf", "F32", QUIET, gate=False)
    data = (tmp_path / "out.gguf").read_bytes()
    (tmp_path / "out.gguf").write_bytes(data[: len(data) // 2])
    with pytest.raises(VerificationFailed, match=r"cut short|could not be run"):
        verify.verify(llama, tmp_path / "out.gguf")


def test_checks_that_did_not_run_are_named(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(llama, tmp_path / "out.gguf", "F32", QUIET, gate=False)
    monkeypatch.setattr(verify, "installed", lambda *names: False)
    findings = verify.check(llama, tmp_path / "out.gguf")
    assert set(findings.skipped) == {"tokenizer", "logits", "chat"}
    assert "pip install 'llamada[train]'" in findings.skipped["logits"]
    assert findings.summary()["verified"]


def test_a_model_too_big_for_memory_is_compared_in_its_first_layers(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converters import reference

    convert(llama, tmp_path / "out.gguf", "Q8_0", QUIET, gate=False)
    monkeypatch.setattr(reference, "available_memory", lambda: 1000)
    monkeypatch.setattr(reference, "LAYERS", 1)
    findings = verify.check(llama, tmp_path / "out.gguf")
    assert (findings.failed, findings.numbers["layers_compared"]) == ({}, 1)
    assert findings.numbers["kl_of_layers"] < 1e-9
    assert "does not fit into memory" in findings.skipped["chat"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gguf"]


def test_memory_stays_bounded(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A big matrix is read in blocks of rows, never whole."""
    from converters.architectures import steps
    from converters.safetensors import StoredTensor

    monkeypatch.setattr(steps, "BLOCK", 4 * 64 * 16)
    whole, read = set(), StoredTensor.read

    def watched(self: StoredTensor, start: int = 0, stop: int | None = None) -> Any:
        rows = (self.shape[0] if stop is None else stop) - start
        if rows * int(np.prod(self.shape[1:])) > 64 * 16:
            whole.add(self.name.rpartition("self_attn.")[2])
        return read(self, start, stop)

    monkeypatch.setattr(StoredTensor, "read", watched)
    convert(llama, tmp_path / "out.gguf", "F16", QUIET, gate=False)
    assert whole == {"q_proj.weight", "k_proj.weight"}  # what is permuted
    assert Checkpoint.open(llama).tensors.keys()


def test_a_window_that_llama_cpp_does_not_have_is_told(tmp_path: Path) -> None:
    tiny_models.make("mistral", tmp_path / "in", config={"sliding_window": 256})
    findings = convert(tmp_path / "in", tmp_path / "out.gguf", "F16", QUIET, gate=False)
    assert findings["note"].startswith("llama.cpp attends beyond the sliding window of 256")


def test_layers_behind_the_last_are_left_out(tmp_path: Path) -> None:
    """DeepSeek's multi-token prediction."""
    tiny_models.make("deepseek3", tmp_path / "in")
    extra = tmp_path / "in/model-extra.safetensors"
    write_tensors(extra, [("model.layers.3.eh_proj.weight", "F32", np.ones((64, 128), np.float32))])
    convert(tmp_path / "in", tmp_path / "out.gguf", "F16", QUIET, gate=False)
    assert {t.name for t in read_header(tmp_path / "out.gguf").tensors if "blk.3" in t.name} == set()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_files_of_any_shape_are_answered(copy: Path, tmp_path: Path, name: str) -> None:
    """Every value of every file, replaced by something else: refused in words, or of no consequence."""
    path = copy / name
    original = json.loads(path.read_text())
    texts = ["", "[]", "null", "[" * 100_000, '{"model": {"type": "BPE", "vocab": {"a": -5}}}']
    for key in original:
        for value in (None, 7, -1, "text", [], {}, [[1]], {"type": "Sequence", "x": 1}, True, 1e300):
            texts.append(json.dumps({**original, key: value}))
    for text in texts:
        path.write_text(text)
        with contextlib.suppress(ConverterError):  # anything else that is raised is ours to answer for
            to_gguf.plan_safely(Checkpoint.open(copy), "m")
