"""The network of `guide` in torch: a llama (RMSNorm, RoPE, grouped-query attention, SwiGLU, tied embedding).

Written out here in full so that the exported tensors are known exactly; serving never imports it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import Tensor, nn

from guide.induction import prepare

PLAIN_UP_TO = 256  # up to here three plain products are faster on a CPU than the fused attention


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network; widths are multiples of 256 so that every K-quant applies."""

    vocab: int = 4096
    width: int = 256
    layers: int = 7
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 768
    context: int = 8192
    rope_base: float = 100_000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, kv_width, bias=False)
        self.v = nn.Linear(shape.width, kv_width, bias=False)
        self.o = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        shape = self.shape
        q = self.q(x).view(batch, length, shape.heads, shape.head_width).transpose(1, 2)
        k = self.k(x).view(batch, length, shape.kv_heads, shape.head_width).transpose(1, 2)
        v = self.v(x).view(batch, length, shape.kv_heads, shape.head_width).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        groups = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        if length > PLAIN_UP_TO:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            later = torch.ones(length, length, dtype=torch.bool).triu(1)
            scores = (q * shape.head_width**-0.5) @ k.transpose(-1, -2)
            mixed = scores.float().masked_fill(later, -1e9).softmax(-1).to(v.dtype) @ v
        return self.o(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.eps = shape.norm_eps
        self.attention_norm = nn.Parameter(torch.ones(shape.width))
        self.ffn_norm = nn.Parameter(torch.ones(shape.width))
        self.attention = Attention(shape)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(norm(x, self.attention_norm, self.eps), cos, sin)
        h = norm(x, self.ffn_norm, self.eps)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Guide(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.Parameter(torch.ones(shape.width))
        self.apply(self._initialise)
        for block in self.blocks:  # every block begins as a no-op: the first steps learn much faster
            nn.init.zeros_(block.attention.o.weight)
            nn.init.zeros_(block.down.weight)
        prepare(self)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5 * 0.5)

    def forward(self, tokens: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """Logits at the flat positions `wanted`; only those are needed, and the output matrix is the dearest one."""
        cos, sin = rope_table(positions, self.shape)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        x = x.reshape(-1, self.shape.width)[wanted]
        return F.linear(norm(x, self.output_norm, self.shape.norm_eps), self.embedding.weight)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x.float(), weight.shape, weight, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def rope_table(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    half = shape.head_width // 2
    frequencies = shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = positions[:, None, :, None].float() * frequencies
    return angles.cos(), angles.sin()
