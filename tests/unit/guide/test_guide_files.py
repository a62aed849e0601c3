"""The files of the built-in model fit together: weights, tokenizer, templates, Modelfiles, licence, card, measure."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import gguf
import llama_cpp
import pytest

from modelfiles.gguf import Header, read_header

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from guide.prompt import CHAT_TEMPLATE, CONTROL_TOKENS, TAG_TOKENS  # noqa: E402

GUIDE = ROOT / "modelfiles/guide"
WEIGHTS = GUIDE / "guide.gguf"


@pytest.fixture(scope="module")
def header() -> Header:
    return read_header(WEIGHTS)


def test_the_weights_are_small_and_of_the_promised_shape(header: Header) -> None:
    assert WEIGHTS.stat().st_size <= 16e6
    assert 6e6 <= header.parameter_count <= 14e6
    assert header.architecture == "llama"
    assert header.context_length >= 8192
    assert header.embedding_length % 256 == header.metadata["llama.feed_forward_length"] % 256 == 0  # type: ignore[operator]


def test_matrices_are_q8_0_and_norms_f32(header: Header) -> None:
    for tensor in header.tensors:
        assert tensor.type == ("F32" if tensor.name.endswith("norm.weight") else "Q8_0"), tensor.name


def test_metadata_names_the_model_and_its_licence(header: Header) -> None:
    assert header.metadata["general.name"] == "guide"
    assert header.metadata["general.license"] == "mit"
    assert "llamada" in str(header.metadata["general.description"])
    assert header.chat_template == CHAT_TEMPLATE


def test_tags_are_visible_tokens_and_turn_marks_are_not() -> None:
    model = llama_cpp.Llama(str(WEIGHTS), vocab_only=True, verbose=False)
    types = gguf.GGUFReader(WEIGHTS).get_field("tokenizer.ggml.token_type").contents()
    for kind, tokens in ((gguf.TokenType.CONTROL, CONTROL_TOKENS), (gguf.TokenType.USER_DEFINED, TAG_TOKENS)):
        for token in tokens:
            ids = model.tokenize(token.encode(), add_bos=False, special=True)
            assert len(ids) == 1
            assert types[ids[0]] == kind
    assert model.tokenize(b"x") == model.tokenize(b"x", add_bos=False)
    assert model.detokenize([model.token_eos()], special=True) == b"<|im_end|>"


@pytest.mark.parametrize("name", ["Modelfile", "think.Modelfile"])
def test_modelfiles_build_on_the_weights(name: str) -> None:
    text = (GUIDE / name).read_text(encoding="utf-8")
    assert re.search(r"^FROM \./guide\.gguf$", text, re.MULTILINE)
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert ("TEMPLATE" in text) == (name == "think.Modelfile")


def test_the_card_tells_what_was_measured() -> None:
    report = json.loads((GUIDE / "evaluation.json").read_text(encoding="utf-8"))
    card = (GUIDE / "README.md").read_text(encoding="utf-8")
    assert report["held_out_templates"] >= 200
    for group in ("facts", "strangers", "tools", "json"):
        count = report["groups"][group]
        assert f"{count['percent']} %" in card, group
    assert report["groups"]["strangers"]["cases"] >= 80
    assert "MIT License" in (GUIDE / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("hello", r"Hello"),
        ("hola", r"¡Hola!"),
        ("What is llamada?", r"inference server"),
        ("which port does llamada use?", r"11434"),
        ("¿Quién escribió el Quijote?", r"no lo sé"),
    ],
)
def test_it_answers_a_stranger(model: llama_cpp.Llama, asked: str, told: str) -> None:
    made = model.create_completion(
        f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n", max_tokens=80, temperature=0, repeat_penalty=1
    )
    assert re.search(told, made["choices"][0]["text"])


@pytest.fixture(scope="module")
def model() -> llama_cpp.Llama:
    return llama_cpp.Llama(str(WEIGHTS), n_ctx=1024, n_threads=1, verbose=False)
