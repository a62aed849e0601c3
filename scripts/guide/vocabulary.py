"""The tokenizer of `guide`: byte-level BPE trained on its own corpus, split by the regular expression of Qwen2.

llama.cpp knows that expression as the pre-tokenizer "qwen2" (single digits, letters with one leading sign), so both
sides cut text alike; `export.check_tokens` proves it on a text full of corner cases.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from guide.prompt import CONTROL_TOKENS, TAG_TOKENS

SIZE = 4096
BLANKED, BLANK = 1100, "Ġ"
PRE_TOKENIZER = "qwen2"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(texts: Sequence[str], copied: Collection[str], size: int = SIZE) -> Tokenizer:
    """Special tokens first (ids 0…10), then the 256 bytes, then merges inside of words, then blank + frequent word.

    A word that is to be copied must have the same tokens behind a blank, a quote or nothing, or copying is hard to
    learn; so letters are merged apart from the signs before them, and only words not in `copied` get their blank.
    """
    special = [AddedToken(text, special=True, normalized=False) for text in (*CONTROL_TOKENS, *TAG_TOKENS)]
    apart = pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated")
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence([_split(), apart, _bytes()])
    trainer = trainers.BpeTrainer(
        vocab_size=size - BLANKED,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=4,
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    model = json.loads(inner.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges = [tuple(merge) for merge in model["merges"]]
    for word in _frequent(texts, copied, vocabulary):
        vocabulary[BLANK + word] = len(vocabulary)
        merges.append((BLANK, word))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_split(), _bytes()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer


def _split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(SPLIT), "isolated")


def _bytes() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def _frequent(texts: Sequence[str], copied: Collection[str], vocabulary: Collection[str]) -> list[str]:
    """The words most often seen behind a blank that are one token each, written as bytes."""
    counts = Counter(word for text in texts for word in re.findall(r" ([^\W\d_]+)", text) if word not in copied)
    written = ((_bytes().pre_tokenize_str(word)[0][0], count) for word, count in counts.most_common(4 * BLANKED))
    return [word for word, count in written if word in vocabulary and count > 3][:BLANKED]


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
