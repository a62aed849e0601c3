"""The tokenizer of `guide`: byte-level BPE trained on its own corpus, split by the regular expression of Qwen2.

llama.cpp knows that expression as the pre-tokenizer "qwen2" (single digits, letters with one leading sign), so both
sides cut text alike; `export.check_tokens` proves it on a text full of corner cases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from guide.prompt import CONTROL_TOKENS, TAG_TOKENS

SIZE = 4096
PRE_TOKENIZER = "qwen2"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(texts: Iterable[str], size: int = SIZE) -> Tokenizer:
    """Special tokens first (ids 0…10), then the 256 bytes, then merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True, normalized=False) for text in (*CONTROL_TOKENS, *TAG_TOKENS)]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=4,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def parts(tokenizer: Tokenizer, size: int = SIZE) -> tuple[list[str], list[str]]:
    """Every token by id (padded to `size`) and the merges, as a GGUF wants them."""
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [""] * size
    for text, token in {**model["vocab"], **tokenizer.get_vocab()}.items():
        tokens[token] = text
    tokens = [text or f"[PAD{token}]" for token, text in enumerate(tokens)]
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    return tokens, merges


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
