"""A start that can copy: one head that looks at the previous token, and heads that find "what followed this before".

Left to itself a network of this size needs millions of tokens before such a pair of heads appears, and tool calls and
JSON live on copying. Here the pair is written into the first weights; training is free to change every bit of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from guide.model import Attention, Guide

CONSTANT = 0.04  # what every token has in dimension 0: a head that only looks at places needs something to hold on to
NEAR = 4  # the fastest rotations tell neighbours apart
SLOW = 14  # rotations from here on hardly turn within a hundred tokens: they compare contents
SHARPNESS, LOUD = 7.0, 0.3
FINDERS = (1, 2)


@torch.no_grad()  # type: ignore[untyped-decorator]
def prepare(model: Guide) -> None:
    width, head = model.shape.width, model.shape.head_width
    model.embedding.weight[:, 0] = CONSTANT
    reading = torch.randn(head, width) / width**0.5
    reading[:, 0] = 0
    writing = torch.linalg.qr(torch.randn(width, head))[0]
    writing[0] = 0
    _look_back(model.blocks[0].attention, reading, writing)
    for layer in FINDERS:
        _find(model.blocks[layer].attention, reading, writing)


def _look_back(attention: Attention, reading: Tensor, writing: Tensor) -> None:
    """Head 0 attends to the token before and writes down what it was."""
    shape = attention.shape
    head, half = shape.head_width, shape.head_width // 2
    speed = shape.rope_base ** (-torch.arange(NEAR) / half)
    attention.q.weight[: 2 * head] = 0
    attention.k.weight[:head] = 0
    attention.q.weight[:NEAR, 0] = SHARPNESS / 2 * speed.cos()
    attention.q.weight[half : half + NEAR, 0] = -SHARPNESS / 2 * speed.sin()
    attention.k.weight[:NEAR, 0] = SHARPNESS / 2
    attention.v.weight[:head] = reading
    attention.o.weight[:, :head] = writing * CONSTANT


def _find(attention: Attention, reading: Tensor, writing: Tensor) -> None:
    """Head 0 seeks the places whose token before is the present one, and proposes the token there."""
    head, half = attention.shape.head_width, attention.shape.head_width // 2
    slow = torch.cat((torch.arange(SLOW, half), torch.arange(half + SLOW, head)))
    attention.q.weight[:head] = 0
    attention.k.weight[:head] = 0
    attention.q.weight[slow] = 2 * reading[slow]
    attention.k.weight[slow] = 2 * writing.T[slow]
    values = torch.randn_like(reading) / reading.shape[1] ** 0.5
    attention.v.weight[:head] = values
    attention.o.weight[:, :head] = values.T * LOUD
