"""Which of llama.cpp's pre-tokenizers a byte-level BPE has: the one that cuts the torture text as the original does.

Needs the ``tokenizers`` package as the judge. Without it the name is taken from the structure of ``tokenizer.json``,
and the result says so.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.errors import Unsupported
from converters.gguf import pretokenizers
from converters.gguf.evaluate import Loaded
from converters.gguf.metadata import Metadata
from converters.gguf.vocab import Vocabulary
from converters.gguf.write import write
from converters.torture import TORTURE


def judge_available() -> bool:
    return importlib.util.find_spec("tokenizers") is not None


def as_normalized(text: str, tokenizer: Mapping[str, Any]) -> str:
    """Some tokenizers (Qwen's) bring text into a composed form first; llama.cpp leaves that to who types."""
    kinds = {str(part.get("type")) for part in normalizers_of(tokenizer)}
    form = next((kind for kind in ("NFC", "NFKC", "NFD", "NFKD") if kind in kinds), None)
    return unicodedata.normalize(form, text) if form in ("NFC", "NFKC", "NFD", "NFKD") else text


def normalizers_of(tokenizer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    part = tokenizer.get("normalizer")
    if not isinstance(part, Mapping):
        return []
    return [part, *(inner for inner in part.get("normalizers") or () if isinstance(inner, Mapping))]


def expected(tokenizer_json: str, text: str) -> list[int]:
    """Token ids by the ``tokenizers`` package, special tokens neither added nor recognized apart."""
    from tokenizers import Tokenizer

    return list(Tokenizer.from_str(tokenizer_json).encode(text, add_special_tokens=False).ids)


def find_pre(vocabulary: Vocabulary, tokenizer: dict[str, Any]) -> str:
    """Unsupported when none of them does."""
    if not judge_available():
        name = pretokenizers.known_structure(tokenizer)
        if name is None:
            raise Unsupported(
                "the pre-tokenizer of tokenizer.json is none of the common ones; with the tokenizers package it can be "
                "found by trying: pip install 'llamada[train]'"
            )
        return name
    text = as_normalized(TORTURE, tokenizer)
    wanted = expected(json.dumps(tokenizer), text)
    for name in pretokenizers.candidates(tokenizer):
        if tokens_with(vocabulary, name, text) == wanted:
            return name
    text = pretokenizers.latin(text)
    wanted = expected(json.dumps(tokenizer), text)
    for name in pretokenizers.candidates(tokenizer):
        if name in pretokenizers.APPROXIMATE and tokens_with(vocabulary, name, text) == wanted:
            return name
    raise Unsupported(
        "none of llama.cpp's pre-tokenizers cuts text as this tokenizer does, so the model would read garbage; "
        "serve the checkpoint with the torch backend, or train it with a tokenizer that llama.cpp knows"
    )


def tokens_with(vocabulary: Vocabulary, pre: str, text: str) -> list[int]:
    """The text as llama.cpp cuts it with this pre-tokenizer."""
    metadata = Metadata()
    metadata.add_plain("general.architecture", "llama")
    dataclasses.replace(vocabulary, pre=pre, templates={}).add_to(metadata)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.gguf"
        write(path, metadata, [], lambda done, total: None)
        with Loaded(path, vocab_only=True) as model:
            return model.tokenize(text)
