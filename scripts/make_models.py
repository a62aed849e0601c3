#!/usr/bin/env python3
"""Make the models that speed is measured on: random weights in the shapes of models that people use.

    python scripts/make_models.py [--out DIR] [qwen0.5b llama1b tiny13m]

Speed and memory of these files are real, their text is noise. The tokenizer is a byte-level BPE trained on the
Python documentation that every interpreter carries, padded to the real vocabulary size; end-of-text rows of the
embedding are near zero, so that generations seldom end early. Written as F16, then quantized (Q4_K_M, Q8_0).
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """``biases``: q, k and v have biases (Qwen2). The output matrix is tied to the embedding."""

    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    context: int
    rope_base: float
    quantizations: tuple[str, ...]
    biases: bool = False


SHAPES = {
    "tiny13m": Shape("llama", 6, 256, 4, 4, 768, 32_000, 8192, 1e4, ("Q8_0",)),
    "qwen0.5b": Shape("qwen2", 24, 896, 14, 2, 4864, 151_936, 32_768, 1e6, ("Q4_K_M",), biases=True),
    "llama1b": Shape("llama", 16, 2048, 32, 8, 8192, 128_256, 131_072, 5e5, ("Q4_K_M",)),
}
FILE_TYPES = {"Q8_0": 7, "Q4_K_M": 15}


def corpus() -> collections.Counter[str]:
    """Words (with their leading blank) of the interpreter's own documentation, counted."""
    from pydoc_data import topics

    words: collections.Counter[str] = collections.Counter()
    for text in topics.topics.values():
        for line in text.splitlines():
            words.update(" " + word for word in line.split())
    return words


def byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return {b: chr(b) for b in kept} | {b: chr(256 + i) for i, b in enumerate(rest)}


def train_bpe(merges: int) -> tuple[list[str], list[str]]:
    """(tokens, merges) of a byte-level BPE; quick because only words that change are counted again."""
    letters = byte_letters()
    words = [([letters[b] for b in w.encode()], n) for w, n in corpus().items() if len(w) < 24]
    pairs: collections.Counter[tuple[str, str]] = collections.Counter()
    where: dict[tuple[str, str], set[int]] = collections.defaultdict(set)
    for i, (parts, n) in enumerate(words):
        for pair in itertools.pairwise(parts):
            pairs[pair] += n
            where[pair].add(i)
    rules: list[str] = []
    tokens = list(letters.values())
    while len(rules) < merges:
        best = max(pairs, key=lambda p: (pairs[p], p))
        rules.append(f"{best[0]} {best[1]}")
        tokens.append(best[0] + best[1])
        for i in list(where[best]):
            parts, n = words[i]
            for pair in itertools.pairwise(parts):
                pairs[pair] -= n
            j = 0
            while j < len(parts) - 1:
                if (parts[j], parts[j + 1]) == best:
                    parts[j : j + 2] = [parts[j] + parts[j + 1]]
                j += 1
            for pair in itertools.pairwise(parts):
                pairs[pair] += n
                where[pair].add(i)
        del pairs[best], where[best]
    return tokens, rules


def write_f16(shape: Shape, path: Path, seed: int = 7) -> None:
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, shape.architecture)
    add_settings(writer, shape)
    add_tokenizer(writer, shape.vocabulary)

    def matrix(name: str, rows: int, columns: int, scale: float = 0.02) -> None:
        data = rng.standard_normal((rows, columns), np.float32) * np.float32(scale)
        if name == "token_embd.weight":
            data[shape.vocabulary - len(SPECIALS) :] *= 1e-3
        writer.add_tensor(name, data.astype(np.float16))

    def vector(name: str, size: int, base: float) -> None:
        writer.add_tensor(name, (base + 0.02 * rng.standard_normal(size)).astype(np.float32))

    kv = shape.width // shape.heads * shape.kv_heads
    matrix("token_embd.weight", shape.vocabulary, shape.width)
    vector("output_norm.weight", shape.width, 1)
    for i in range(shape.layers):
        block = f"blk.{i}."
        for name, rows in (("attn_q", shape.width), ("attn_k", kv), ("attn_v", kv)):
            matrix(f"{block}{name}.weight", rows, shape.width, 0.04)
            if shape.biases:
                vector(f"{block}{name}.bias", rows, 0)
        matrix(block + "attn_output.weight", shape.width, shape.width)
        matrix(block + "ffn_gate.weight", shape.ffn, shape.width)
        matrix(block + "ffn_up.weight", shape.ffn, shape.width)
        matrix(block + "ffn_down.weight", shape.width, shape.ffn)
        vector(block + "attn_norm.weight", shape.width, 1)
        vector(block + "ffn_norm.weight", shape.width, 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_settings(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("random weights")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(1)


def add_tokenizer(writer: gguf.GGUFWriter, vocabulary: int) -> None:
    tokens, rules = train_bpe(8000)
    tokens += [f"word{i}" for i in range(vocabulary - len(tokens) - len(SPECIALS))] + SPECIALS
    kinds = [gguf.TokenType.NORMAL] * (vocabulary - len(SPECIALS)) + [gguf.TokenType.CONTROL] * len(SPECIALS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(rules)
    writer.add_eos_token_id(vocabulary - 1)
    writer.add_bos_token_id(vocabulary - 3)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def quantize(source: Path, target: Path, file_type: int) -> None:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise SystemExit(f"quantizing {source.name} failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"which ({', '.join(SHAPES)}); all if none is given")
    parser.add_argument("--out", type=Path, default=Path.home() / ".cache" / "llamada" / "bench-models")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(SHAPES):
        sys.exit(f"no shape is called {', '.join(sorted(unknown))}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or SHAPES:
        shape, begun = SHAPES[name], time.perf_counter()
        f16 = arguments.out / f"{name}.F16.gguf"
        for kind in shape.quantizations:
            target = arguments.out / f"{name}.{kind}.gguf"
            if target.exists():
                print(f"{target} is there")
                continue
            if not f16.exists():
                write_f16(shape, f16)
            quantize(f16, target.with_suffix(".partial"), FILE_TYPES[kind])
            target.with_suffix(".partial").rename(target)
            print(f"{target}: {target.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
