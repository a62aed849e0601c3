# ruff: noqa: E501 - a text full of corner cases
"""llama.cpp must cut text into the same tokens and compute the same logits as the network in torch."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
import torch
from tokenizers import Tokenizer

from guide.export import export
from guide.model import Guide

MAX_LOGIT_DIFFERENCE = 1e-3  # F32 against F32; the Q8_0 file is measured by evaluate.py
TORTURE = """Hello, world! ¿Cómo estás? It's I'LL we've DON'T 'tis
x=1234567 3.14 -5 10% a_b__c camelCase OLLAMA_HOST=0.0.0.0:11434 /api/chat --json  two  spaces\ttab
\n\n   leading\n trailing   \n\r\n naïve Ñandú ÉCOLE straße İstanbul Ελλάδα Москва 東京 한국어 العربية हिन्दी 🙂👩‍👩‍👧 é ﬁ ½ ²
<think>\nyes\n</think>\n<tool_call>\n{"name": "f", "arguments": {"a": [1, 2.5, null], "b": "\\"q\\""}}\n</tool_call><|im_end|>
```python\nprint("x")  # y\n``` (((a))) ... --- !!! ?? ;;: \u00a0nbsp \u200bzero \u2028line {{ }} <|notspecial|>"""


def check_tokens(tokenizer: Tokenizer, path: Path) -> None:
    """llama.cpp must cut the torture text as the tokenizer of the training did, and give the same text back."""
    vocabulary = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    for text in (TORTURE, *TORTURE.splitlines()):
        ours = tokenizer.encode(text, add_special_tokens=False).ids
        theirs = vocabulary.tokenize(text.encode(), add_bos=False, special=True)
        if ours != theirs:
            raise ValueError(f"llama.cpp tokenizes {text!r} otherwise: {theirs} instead of {ours}")
        if vocabulary.detokenize(theirs, special=True).decode() != text:
            raise ValueError(f"the tokens of {text!r} give another text back")
    if vocabulary.tokenize(b"a") != vocabulary.tokenize(b"a", add_bos=False):
        raise ValueError("llama.cpp adds a begin token")


def check_logits(model: Guide, tokenizer: Tokenizer, folder: Path) -> float:
    """The largest difference between torch's logits and llama.cpp's, for an F32 file with an F32 cache."""
    path = folder / "check-f32.gguf"
    export(model, tokenizer, path, "F32")
    tokens = tokenizer.encode("<|im_start|>user\n" + TORTURE, add_special_tokens=False).ids
    engine = llama_cpp.Llama(
        str(path), n_ctx=1024, logits_all=True, verbose=False, type_k=0, type_v=0, flash_attn=False, n_threads=1
    )  # fmt: skip
    engine.eval(tokens)
    ours, theirs = logits(model, tokens), engine.scores[: len(tokens)]
    path.unlink()
    difference = float(np.abs(ours - theirs).max())
    if difference > MAX_LOGIT_DIFFERENCE:
        raise ValueError(f"llama.cpp computes other logits: they differ by {difference}")
    return difference


def logits(model: Guide, tokens: list[int]) -> np.ndarray:
    ids, positions = torch.tensor([tokens]), torch.arange(len(tokens))
    with torch.no_grad():
        made: np.ndarray = model(ids, positions[None], positions).numpy()
    return made
