"""Tokenizers of real models: the vocabularies with expected tokens that llama.cpp's sources carry.

They are in the source archive of llama-cpp-python (``pip download --no-deps --no-binary :all: llama-cpp-python``),
under ``vendor/llama.cpp/models``. LLAMADA_TEST_VOCABULARIES names that folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from converters.checkpoint import Checkpoint
from converters.gguf.evaluate import Loaded
from converters.gguf.find_pre import find_pre, tokens_with
from converters.gguf.metadata import Metadata
from converters.gguf.vocab import Kind, Vocabulary, of_json, read_checkpoint
from converters.gguf.vocab_to_hf import of_metadata, tokenizer_config, tokenizer_json
from converters.gguf.write import write
from converters.torture import TORTURE
from modelfiles.gguf import read_header

FOLDER = Path(os.environ.get("LLAMADA_TEST_VOCABULARIES") or Path.home() / ".cache/llamada/vocabularies")
NAMES = ("bert-bge", "command-r", "deepseek-coder", "falcon", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2",
         "refact", "starcoder")  # fmt: skip
SEPARATOR = "\n__ggml_vocab_test__\n"
# What llama.cpp itself answers differently from the original on the torture text, known there as well.
pytestmark = [
    pytest.mark.skipif(not any(FOLDER.glob("ggml-vocab-*.gguf")), reason="LLAMADA_TEST_VOCABULARIES names no folder"),
]
tokenizers = pytest.importorskip("tokenizers", reason="needs the train extra")


def load(name: str) -> Vocabulary:
    return of_metadata(Metadata.of(read_header(FOLDER / f"ggml-vocab-{name}.gguf")))


def expectations(name: str) -> list[tuple[str, list[int]]]:
    texts = (FOLDER / f"ggml-vocab-{name}.gguf.inp").read_bytes().decode().split(SEPARATOR)
    lines = (FOLDER / f"ggml-vocab-{name}.gguf.out").read_text().split("\n")
    return [(text, [int(token) for token in line.split()]) for text, line in zip(texts, lines, strict=False)]


def from_folder(vocabulary: Vocabulary, folder: Path) -> tuple[Vocabulary, dict[str, Any]]:
    """Through the files of a checkpoint and back."""
    made = tokenizer_json(vocabulary)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(made))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(vocabulary, 2048)))
    return read_checkpoint(Checkpoint(folder, {}, {})), made


def without_surroundings(vocabulary: Vocabulary, tokens: list[int]) -> list[int]:
    added = {vocabulary.special.get(role) for role in ("bos", "cls", "sep")} if vocabulary.model == "bert" else set()
    return [token for token in tokens if token not in added]


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_json_of_a_gguf_cuts_as_the_original(name: str) -> None:
    vocabulary = load(name)
    judge = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(vocabulary)))
    cases = expectations(name)
    assert len(cases) > 40
    for text, wanted in cases:
        found = judge.encode(text, add_special_tokens=False).ids
        assert found == without_surroundings(vocabulary, wanted), text


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_nothing_is_lost(name: str, tmp_path: Path) -> None:
    vocabulary = load(name)
    back, made = from_folder(vocabulary, tmp_path / "in")
    if back.model == "gpt2":
        back.pre = find_pre(back, made)
    back.pad_to(len(vocabulary.tokens))
    assert back.model == vocabulary.model
    assert back.tokens == vocabulary.tokens
    unknown = vocabulary.special.get("unk")
    pairs = enumerate(zip(back.kinds, vocabulary.kinds, strict=True))
    changed = [i for i, (ours, theirs) in pairs if ours != theirs and i != unknown]
    assert {vocabulary.kinds[i] for i in changed} <= {Kind.UNUSED, Kind.UNKNOWN, Kind.NORMAL, Kind.USER_DEFINED}
    assert (back.merges or []) == (vocabulary.merges or [])

    metadata = Metadata()
    metadata.add_plain("general.architecture", "llama")
    back.add_to(metadata)
    write(tmp_path / "vocab.gguf", metadata, [], lambda done, total: None)
    with Loaded(tmp_path / "vocab.gguf", vocab_only=True) as model:
        for text, wanted in expectations(name):
            assert model.tokenize(text) == without_surroundings(vocabulary, wanted), text


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("bert-bge", "llama-spm", "phi-3")])
def test_the_pre_tokenizer_is_found_by_what_it_does(name: str) -> None:
    """Also where the structure of the file says nothing."""
    vocabulary = load(name)
    made = tokenizer_json(vocabulary)
    hidden = of_json(made)
    found = find_pre(hidden, made)
    wanted = tokens_with(dataclasses.replace(vocabulary), vocabulary.pre, TORTURE)
    assert tokens_with(hidden, found, TORTURE) == wanted
