"""Conversations as batches of token ids: grouped by length so that little is padding, in a seeded order.

Positions may jump between turns (`stretch`): short examples then teach the distances of an 8k context, too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from guide.prompt import Conversation, segments

STRETCHED = 0.2
FIRST_PLAIN = 11  # the ids below are special tokens
WIDTHS = (32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024, 1536, 2048)


@dataclass(frozen=True, slots=True)
class Example:
    tokens: tuple[int, ...]
    learn: tuple[bool, ...]
    turns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """`wanted` are flat positions whose next token, `targets`, is learned."""

    tokens: Tensor
    positions: Tensor
    wanted: Tensor
    targets: Tensor


def encode(tokenizer: Tokenizer, talks: Sequence[Conversation]) -> list[Example]:
    """Each segment is tokenized alone: the server, too, tokenizes a prompt without knowing the answer."""
    pieces = [segments(talk) for talk in talks]
    flat = [text for piece in pieces for text, _ in piece]
    encoded = iter(tokenizer.encode_batch(flat, add_special_tokens=False))
    examples = []
    for piece in pieces:
        tokens: list[int] = []
        learn: list[bool] = []
        turns: list[int] = []
        for _, wanted in piece:
            ids = next(encoded).ids
            turns.append(len(tokens))
            tokens += ids
            learn += [wanted] * len(ids)
        examples.append(Example(tuple(tokens), tuple(learn), tuple(turns)))
    return examples


def batches(examples: Sequence[Example], size: int, seed: str, context: int) -> list[Batch]:
    """All examples once, about `size` tokens to a batch, batches in random order; too long ones are left out."""
    rng = random.Random(seed)
    groups: dict[int, list[Example]] = {}
    for example in examples:
        width = next((width for width in WIDTHS if len(example.tokens) <= width), None)
        if width is not None:
            groups.setdefault(width, []).append(example)
    result = []
    for width, group in groups.items():
        rng.shuffle(group)
        count = max(1, size // width)
        result += [_batch(group[i : i + count], rng, context) for i in range(0, len(group), count)]
    rng.shuffle(result)
    return result


def _batch(group: Sequence[Example], rng: random.Random, context: int) -> Batch:
    length = max(len(example.tokens) for example in group)
    tokens = torch.zeros(len(group), length, dtype=torch.long)
    positions = torch.zeros(len(group), length, dtype=torch.long)
    wanted: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(group):
        count = len(example.tokens)
        tokens[row, :count] = torch.tensor(example.tokens)
        positions[row, :count] = torch.tensor(_positions(example, rng, context))
        for index in range(1, count):
            if example.learn[index]:
                wanted.append(row * length + index - 1)
                targets.append(example.tokens[index])
    return Batch(tokens, positions, torch.tensor(wanted), torch.tensor(targets))


def _positions(example: Example, rng: random.Random, context: int) -> list[int]:
    count = len(example.tokens)
    if len(example.turns) < 3 or rng.random() >= STRETCHED:
        return list(range(count))
    cut = rng.choice(example.turns[1:])
    jump = rng.randrange(1, context - count)
    return [index + (jump if index >= cut else 0) for index in range(count)]


def echo(tokenizer: Tokenizer, size: int, rng: random.Random) -> Batch:
    """Turns whose answer repeats random tokens of the question: what copying is, and nothing else."""
    length = rng.randint(3, 40)
    asked = tokenizer.encode("<|im_start|>user\n", add_special_tokens=False).ids
    answered = tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False).ids
    end = tokenizer.token_to_id("<|im_end|>")
    group = []
    for _ in range(max(1, size // (2 * length + len(asked) + len(answered) + 1))):
        said = [rng.randrange(FIRST_PLAIN, tokenizer.get_vocab_size()) for _ in range(length)]
        told = [*said, end]
        tokens = (*asked, *said, *answered, *told)
        group.append(Example(tokens, (False,) * (len(tokens) - len(told)) + (True,) * len(told), (0,)))
    return _batch(group, rng, context=0)
