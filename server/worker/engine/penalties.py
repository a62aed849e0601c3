"""What earlier tokens do to the logits of the next: repeat, presence and frequency penalties, and DRY.

Same arithmetic as llama.cpp's, but applied in place and only to tokens that occurred.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from server.types import Sampling
from server.worker.engine.candidates import Ids, Row

DRY_BREAKERS = (b"\n", b":", b'"', b"*")  # llama.cpp's defaults: no repetition is counted across these
DRY_LONGEST = 2048  # repetitions count as at most this much longer than allowed
LOG_FLOAT_MAX = 88.7228391


class Penalties:
    """Counts of the last ``repeat_last_n`` tokens (-1 = all). A ``repeat_penalty`` of 0 is off, as 1 is."""

    def __init__(self, sampling: Sampling, history: Sequence[int]) -> None:
        last = sampling.repeat_last_n
        self._repeat = np.float32(sampling.repeat_penalty or 1)
        self._frequency = np.float32(sampling.frequency_penalty)
        self._presence = np.float32(sampling.presence_penalty)
        self._window: deque[int] | None = None if last < 0 else deque(maxlen=last)
        self._slots: dict[int, int] = {}
        self._ids = np.zeros(256, np.int64)
        self._counts = np.zeros(256, np.float32)
        for token in history if last < 0 else history[-last:]:
            self.accept(token)

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        neutral = sampling.repeat_penalty in (0, 1) and not sampling.frequency_penalty and not sampling.presence_penalty
        return not neutral and sampling.repeat_last_n != 0

    def accept(self, token: int) -> None:
        if self._window is not None:
            if len(self._window) == self._window.maxlen:
                self._forget(self._window[0])
            self._window.append(token)
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == self._ids.size:
            self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        self._ids[slot] = token
        self._counts[slot] += 1

    def _forget(self, token: int) -> None:
        slot = self._slots[token]
        self._counts[slot] -= 1
        if self._counts[slot]:
            return
        last = len(self._slots) - 1
        moved = int(self._ids[last])
        self._ids[slot], self._counts[slot], self._counts[last] = moved, self._counts[last], 0
        self._slots[moved] = slot
        del self._slots[token]

    def apply(self, row: Row) -> None:
        size = len(self._slots)
        if not size:
            return
        ids = self._ids[:size]
        logits = row[ids]
        if self._repeat != 1:  # a positive logit is divided, a negative one multiplied
            pick = np.minimum if self._repeat > 1 else np.maximum
            logits = pick(logits / self._repeat, logits * self._repeat)
        if self._frequency or self._presence:
            logits -= self._counts[:size] * self._frequency + self._presence
        row[ids] = logits


class Dry:
    """ "Don't repeat yourself": a token that would lengthen a repetition loses multiplier × base ** (length − allowed).

    Keeps, for every position, how far the text up to there agrees with the text's end; one token more is one
    vector operation. ``piece`` tells which tokens break a repetition.
    """

    def __init__(self, sampling: Sampling, history: Sequence[int], piece: Callable[[int], bytes]) -> None:
        self._multiplier, self._base = sampling.dry_multiplier, sampling.dry_base
        self._allowed, self._last = sampling.dry_allowed_length, sampling.dry_penalty_last_n
        exponent = int(LOG_FLOAT_MAX / math.log(self._base)) if self._base > 1.000001 else 1
        self._longest = self._allowed + min(exponent, DRY_LONGEST)
        self._piece = piece
        self._size = len(history)
        self._tokens = np.zeros(max(1024, 2 * self._size), np.int32)
        self._tokens[: self._size] = history
        self._lengths = np.zeros_like(self._tokens)
        self._measure()
        self._broken = next((i for i in range(self._size - 1, -1, -1) if self._breaks(history[i])), -1)

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        return sampling.dry_multiplier != 0 and sampling.dry_base >= 1 and sampling.dry_penalty_last_n != 0

    def _breaks(self, token: int) -> bool:
        piece = self._piece(token)
        return any(breaker in piece for breaker in DRY_BREAKERS)

    def _measure(self) -> None:
        tokens, end = self._tokens[: self._size], self._size - 1
        ends = np.arange(end) if end > 0 else np.zeros(0, np.int64)
        for length in range(min(self._longest, end)):
            ends = ends[ends >= length]
            ends = ends[tokens[ends - length] == tokens[end - length]]
            if not ends.size:
                break
            self._lengths[ends] = length + 1

    def accept(self, token: int) -> None:
        size = self._size
        if size == self._tokens.size:
            self._tokens = np.concatenate((self._tokens, np.zeros_like(self._tokens)))
            self._lengths = np.concatenate((self._lengths, np.zeros_like(self._lengths)))
        grown = np.ones(size, np.int32)
        grown[1:] += self._lengths[: max(size - 1, 0)]
        self._lengths[:size] = grown * (self._tokens[:size] == token)
        self._tokens[size] = token
        self._size = size + 1
        if self._breaks(token):
            self._broken = size

    def apply(self, row: Row) -> None:
        size = self._size
        start = max(0, size - self._last) if self._last > 0 else 0
        limit = min(size - start, size - 1 - self._broken, self._longest)
        if size - start <= self._allowed or limit < self._allowed:
            return
        lengths = np.minimum(self._lengths[start : size - 1], np.arange(1, size - start))
        np.minimum(lengths, limit, out=lengths)
        ends = (lengths >= self._allowed).nonzero()[0]
        lengths = lengths[ends]
        order = lengths.argsort(kind="stable")
        following = self._tokens[start + 1 + ends[order]]
        # later entries win: the longest repetition that a token would continue
        longest = dict(zip(following.tolist(), lengths[order].tolist(), strict=True))
        chosen = [token for token in longest if not self._breaks(token)]
        if chosen:
            ids: Ids = np.array(chosen)
            row[ids] -= self._penalty(np.array([longest[token] for token in chosen], np.float64))

    def _penalty(self, lengths: np.ndarray) -> Row:
        penalty = self._multiplier * self._base ** (lengths - self._allowed)
        return np.clip(penalty, -3e38, 3e38).astype(np.float32)
