"""What runs in the next step: pure decisions over sequences and measured speeds.

A step is one row for every decoding sequence, then prompt chunks within a budget of time. The budget is as
long as a person hardly notices where one stream waits, and shorter the more streams wait: a stall costs all of
them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from server.worker.engine.sequence import Sequence

LONE_STALL = 0.48
"""Seconds that one stream may wait for another's prompt chunk."""

CROWD_STALL = 0.14
SMALLEST_CHUNK = 32
AGEING = 100.0
"""Tokens by which a waiting prompt counts as shorter per second: short ones go first, long ones do not starve."""


@dataclass(slots=True)
class Pace:
    """Seconds per prompt token, as measured; a moving average that forgets within a few chunks."""

    per_token: float = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        if tokens < SMALLEST_CHUNK // 2:
            return
        value = seconds / tokens
        self.per_token = value if not self.per_token else 0.6 * self.per_token + 0.4 * value


def stall_budget(streams: int) -> float:
    """Seconds of prompt work between two tokens of ``streams`` decoding sequences."""
    return max(CROWD_STALL, LONE_STALL / math.sqrt(max(streams, 1)))


def prompt_budget(streams: int, pace: Pace, largest: int) -> int:
    """Prompt tokens for the next step."""
    if streams == 0 or not pace.per_token:
        return largest if streams == 0 else min(largest, 4 * SMALLEST_CHUNK)
    tokens = int(stall_budget(streams) / pace.per_token)
    return max(SMALLEST_CHUNK, min(largest, tokens // 16 * 16))


def plan_prompts(sequences: list[Sequence], budget: int, now_ns: int) -> list[tuple[Sequence, int]]:
    """(sequence, tokens) in slot order, together at most ``budget``: the shortest rest first, with ageing."""

    def rank(sequence: Sequence) -> float:
        waited = (now_ns - sequence.arrived) * 1e-9
        return sequence.left - AGEING * waited

    plan: list[tuple[Sequence, int]] = []
    for sequence in sorted(sequences, key=rank):
        if budget <= 0:
            break
        count = min(sequence.left, budget)
        plan.append((sequence, count))
        budget -= count
    return sorted(plan, key=lambda item: item[0].slot)
