"""Random models of a chosen shape with nano's tokenizer, and their forward pass written out in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

NANO = Path(__file__).parents[2] / "golden" / "models" / "nano.gguf"
EPSILON = 1e-5
ROPE = 10_000.0


@dataclass(frozen=True)
class Shape:
    """Llama's architecture. ``experts`` 0 = dense."""

    width: int = 256
    ffn: int = 512
    layers: int = 2
    heads: int = 4
    experts: int = 0
    used: int = 2


def random_tensors(shape: Shape, vocabulary: int, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def matrix(*size: int) -> np.ndarray:
        return (random.standard_normal(size) * 0.08).astype(np.float32)

    made = {"token_embd.weight": matrix(vocabulary, shape.width), "output.weight": matrix(vocabulary, shape.width)}
    made["output_norm.weight"] = 1 + matrix(shape.width)
    for layer in range(shape.layers):
        at = f"blk.{layer}."
        made[f"{at}attn_norm.weight"] = 1 + matrix(shape.width)
        made[f"{at}ffn_norm.weight"] = 1 + matrix(shape.width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            made[f"{at}{name}.weight"] = matrix(shape.width, shape.width)
        several = (shape.experts,) if shape.experts else ()
        end = "_exps" if shape.experts else ""
        made[f"{at}ffn_gate{end}.weight"] = matrix(*several, shape.ffn, shape.width)
        made[f"{at}ffn_up{end}.weight"] = matrix(*several, shape.ffn, shape.width)
        made[f"{at}ffn_down{end}.weight"] = matrix(*several, shape.width, shape.ffn)
        if shape.experts:
            made[f"{at}ffn_gate_inp.weight"] = matrix(shape.experts, shape.width)
    return made


def write_model(path: Path, shape: Shape, tensors: dict[str, np.ndarray] | None = None) -> Path:
    """A GGUF in F32, loadable. ``tensors``: instead of random ones."""
    nano = GGUFReader(NANO)
    writer = GGUFWriter(path, "llama")
    for field in nano.fields.values():
        if field.name.startswith("tokenizer."):
            kinds = field.types
            writer.add_key_value(field.name, field.contents(), kinds[0], kinds[1] if len(kinds) > 1 else None)
    writer.add_context_length(1024)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(ROPE)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_file_type(0)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.used)
    vocabulary = len(nano.fields["tokenizer.ggml.tokens"].data)
    for name, data in (tensors or random_tensors(shape, vocabulary)).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Inputs(dict[str, list[tuple[int, np.ndarray]]]):
    """What each weight is multiplied with: (expert, rows) by name."""

    def add(self, name: str, rows: np.ndarray, expert: int = 0) -> None:
        self.setdefault(name, []).append((expert, rows))


def forward(shape: Shape, tensors: dict[str, np.ndarray], tokens: np.ndarray, inputs: Inputs) -> np.ndarray:
    """Logits of (tokens, vocabulary) in float64."""
    weights = {name: data.astype(np.float64) for name, data in tensors.items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        inputs.add(name, x)
        return x @ weights[name].T

    x = weights["token_embd.weight"][tokens]
    for layer in range(shape.layers):
        at = f"blk.{layer}."
        h = norm(x, weights[f"{at}attn_norm.weight"])
        q, k, v = (linear(f"{at}attn_{n}.weight", h).reshape(len(tokens), shape.heads, -1) for n in "qkv")
        x = x + linear(f"{at}attn_output.weight", attend(rotate(q), rotate(k), v).reshape(len(tokens), -1))
        h = norm(x, weights[f"{at}ffn_norm.weight"])
        if shape.experts:
            x = x + mixture(shape, weights, at, h, inputs)
        else:
            hidden = silu(linear(f"{at}ffn_gate.weight", h)) * linear(f"{at}ffn_up.weight", h)
            x = x + linear(f"{at}ffn_down.weight", hidden)
    return linear("output.weight", norm(x, weights["output_norm.weight"]))


def mixture(shape: Shape, weights: dict[str, np.ndarray], at: str, h: np.ndarray, inputs: Inputs) -> np.ndarray:
    inputs.add(f"{at}ffn_gate_inp.weight", h)
    scores = softmax(h @ weights[f"{at}ffn_gate_inp.weight"].T)
    best = np.argsort(-scores, axis=1)[:, : shape.used]
    out = np.zeros_like(h)
    for expert in range(shape.experts):
        rows = np.nonzero((best == expert).any(axis=1))[0]
        if not len(rows):
            continue
        gate, up, down = (weights[f"{at}ffn_{n}_exps.weight"][expert] for n in ("gate", "up", "down"))
        hidden = silu(h[rows] @ gate.T) * (h[rows] @ up.T)
        inputs.add(f"{at}ffn_gate_exps.weight", h[rows], expert)
        inputs.add(f"{at}ffn_up_exps.weight", h[rows], expert)
        inputs.add(f"{at}ffn_down_exps.weight", hidden, expert)
        share = scores[rows, expert] / np.take_along_axis(scores[rows], best[rows], 1).sum(1)
        out[rows] += share[:, None] * (hidden @ down.T)
    return out


def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * weight


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rotate(x: np.ndarray) -> np.ndarray:
    """Llama's rope in GGUF order: neighbours are pairs."""
    length, _, size = x.shape
    angle = np.arange(length)[:, None] * ROPE ** (-np.arange(0, size, 2) / size)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    out = np.empty_like(x)
    out[..., ::2] = x[..., ::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., ::2] * sin + x[..., 1::2] * cos
    return out


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
    scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
    return np.einsum("hqk,khd->qhd", softmax(scores), v)
