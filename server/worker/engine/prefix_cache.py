"""Which computed prefixes are at hand: in idle slots, and as snapshots in host memory.

A linear scan over at most a few dozen entries with numpy (about 1 µs each) finds the longest one; a radix tree
would find it in the same time and could not be read as quickly. Idle slots cost a running one nothing (one
stream of cells per sequence), so a finished sequence's cells stay where they are until the slot is needed;
then they move to host memory (about 5 µs per token for 0.5B, against 3 ms to compute one), within a budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from server.worker.engine.sequence import Sequence, Tokens, common_prefix

WORTH_KEEPING = 32
"""Shorter prefixes are computed anew: finding, moving and keeping them costs more."""

NOTHING: Tokens = np.empty(0, np.int32)


@dataclass(slots=True)
class Slot:
    """The cells of one stream. ``tokens``: what an idle one still holds; a busy one has its ``sequence``."""

    index: int
    tokens: Tokens = field(default_factory=lambda: NOTHING)
    sequence: Sequence | None = None
    used: int = 0

    @property
    def idle(self) -> bool:
        return self.sequence is None


@dataclass(slots=True)
class Snapshot:
    """The state of a sequence in host memory. Restoring gives the cells of all ``tokens``."""

    tokens: Tokens
    data: bytearray
    used: int = 0


class Snapshots:
    """Snapshots within a budget of bytes; the least recently used goes first."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.size = 0
        self._clock = 0
        self._entries: list[Snapshot] = []

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, tokens: Tokens, data: bytearray) -> None:
        """Keeps a prefix, dropping any that it contains and the oldest beyond the budget."""
        if len(data) > self.budget:
            return
        for entry in [e for e in self._entries if common_prefix(e.tokens, tokens) == e.tokens.size]:
            self._drop(entry)
        while self._entries and self.size + len(data) > self.budget:
            self._drop(min(self._entries, key=lambda e: e.used))
        self._clock += 1
        self._entries.append(Snapshot(tokens, data, self._clock))
        self.size += len(data)

    def touch(self, entry: Snapshot) -> None:
        self._clock += 1
        entry.used = self._clock

    def longest(self, tokens: Tokens, limit: int, *, whole: bool) -> tuple[int, Snapshot | None]:
        """The entry with the longest common prefix (``whole``: only entries wholly contained in ``tokens``)."""
        best, found = 0, None
        for entry in self._entries:
            length = common_prefix(entry.tokens, tokens, limit)
            if whole and length < entry.tokens.size:
                continue
            if length > best:
                best, found = length, entry
        return best, found

    def covers(self, tokens: Tokens) -> bool:
        return any(common_prefix(e.tokens, tokens) == tokens.size for e in self._entries)

    def most_recent(self) -> list[Snapshot]:
        return sorted(self._entries, key=lambda e: -e.used)

    def _drop(self, entry: Snapshot) -> None:
        self._entries.remove(entry)
        self.size -= len(entry.data)


def regroup(busy: list[int], sequences: int) -> list[tuple[int, int]]:
    """The fewest moves (from, to) after which the busy slots are consecutive. Pure.

    libllama computes one micro-batch per run of consecutive sequence ids, so a gap costs a whole pass over the
    weights at every step.
    """
    count = len(busy)
    if count < 2 or busy[-1] - busy[0] == count - 1:
        return []
    held = set(busy)
    starts = range(sequences - count + 1)
    start = max(starts, key=lambda s: (sum(s <= b < s + count for b in held), -s))
    gaps = [i for i in range(start, start + count) if i not in held]
    strays = [b for b in busy if not start <= b < start + count]
    return list(zip(strays, gaps, strict=True))
