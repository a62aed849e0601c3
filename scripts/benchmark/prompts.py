"""Prompts of a known number of tokens, made of words that are one token each in the model's vocabulary."""

from __future__ import annotations

import random
from pathlib import Path

import gguf


class Prompts:
    """Deterministic; no two prompts of one run share a beginning unless they are asked to."""

    def __init__(self, model: Path, seed: int = 11) -> None:
        reader = gguf.GGUFReader(model)
        field = reader.fields["tokenizer.ggml.tokens"]
        tokens = (bytes(field.parts[i]).decode("utf-8", "replace") for i in field.data[:12_000])
        self._words = [t[1:] for t in tokens if t.startswith("Ġ") and t[1:].isascii() and t[1:].isalpha()]
        self._random = random.Random(seed)

    def words(self, count: int) -> str:
        return "".join(" " + self._random.choice(self._words) for _ in range(count))
