"""The next token of one sequence, from a row of logits.

Candidate first: numpy cuts the row down to the few tokens that llama.cpp's sampler chain could keep, then the
real chain draws from those. Exact for every option; the whole row goes through the chain only where nothing cuts
it first (temperature or typical alone, top-n-sigma, mirostat). Knows nothing of batches or text.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from server.errors import InvalidRequest
from server.types import Sampling
from server.worker.backends.llamacpp.chain import UNSEEDED, Chain, reduce_seed
from server.worker.engine.candidates import Ids, Row, SamplingError, Shortlist, everything, nucleus, refuse
from server.worker.engine.penalties import Dry, Penalties

__all__ = ["Sampler", "SamplingError"]


def _no_piece(token: int) -> bytes:
    return b""


class Sampler:
    """Per step: ``prepare`` once, ``draw`` (again after the row was masked), ``accept`` what was appended.

    ``history``: the prompt, which penalties see too. ``piece``: a token's bytes, for DRY's breakers. ``seed`` is
    the one really used.
    """

    def __init__(
        self,
        sampling: Sampling,
        n_vocab: int,
        eog: frozenset[int],
        history: Sequence[int],
        piece: Callable[[int], bytes] = _no_piece,
    ) -> None:
        self.seed = secrets.randbelow(UNSEEDED) if sampling.seed == -1 else reduce_seed(sampling.seed)
        self._biased, self._biases = _biases(sampling, n_vocab, eog)
        self._penalties = Penalties(sampling, history) if Penalties.wanted(sampling) else None
        self._dry = Dry(sampling, history, piece) if Dry.wanted(sampling) else None
        self._shortlist: Shortlist | None = None
        self._top_p, self._distance = 1.0, math.inf
        if not sampling.mirostat and sampling.top_n_sigma <= 0:  # those two look at all tokens
            sampling = self._cut(sampling, n_vocab)
        self._chain = None if _greedy(sampling) else Chain(sampling, self.seed, n_vocab)

    def _cut(self, sampling: Sampling, n_vocab: int) -> Sampling:
        """Decides what numpy does of the first cut; returns what is left for the chain."""
        if Shortlist.suits(n_vocab, sampling.top_k):
            self._shortlist = Shortlist(n_vocab, sampling.top_k)
        elif sampling.top_k <= 0 and sampling.typical_p >= 1:
            if sampling.top_p < 1:
                self._top_p = sampling.top_p
                return replace(sampling, top_p=1.0)
            if 0 < sampling.min_p <= 1:
                self._distance = -math.log(sampling.min_p)
        return sampling

    def prepare(self, row: Row) -> None:
        """Biases and penalties, in place, on the raw logits."""
        if self._biased.size:
            row[self._biased] += self._biases
        if self._penalties is not None:
            self._penalties.apply(row)
        if self._dry is not None:
            self._dry.apply(row)

    def draw(self, row: Row) -> int:
        """A token of the prepared row. SamplingError if there is none, or the logits are not numbers."""
        if self._chain is None:
            token = int(row.argmax())
            best = float(row[token])
            if not -math.inf < best < math.inf:
                raise refuse(best)
            return token
        return self._chain.apply(*self._candidates(row))

    def _candidates(self, row: Row) -> tuple[Ids, Row]:
        if self._shortlist is not None:
            return self._shortlist.best(row)
        if self._top_p < 1:
            return nucleus(row, self._top_p)
        ids, logits = everything(row)
        if self._distance == math.inf:
            return ids, logits
        near = (logits >= logits.max() - np.float32(self._distance)).nonzero()[0]
        return ids[near], logits[near]

    def accept(self, token: int) -> None:
        if self._penalties is not None:
            self._penalties.accept(token)
        if self._dry is not None:
            self._dry.accept(token)

    def close(self) -> None:
        if self._chain is not None:
            self._chain.free()


def _greedy(sampling: Sampling) -> bool:
    return sampling.temperature <= 0 or (sampling.top_k == 1 and not sampling.mirostat)


def _biases(sampling: Sampling, n_vocab: int, eog: frozenset[int]) -> tuple[Ids, Row]:
    biases = dict(sampling.logit_bias)
    wrong = next((token for token in biases if not 0 <= token < n_vocab), None)
    if wrong is not None:
        raise InvalidRequest(f"logit_bias: this model has no token {wrong}; ids go from 0 to {n_vocab - 1}")
    if sampling.ignore_eos:
        biases.update(dict.fromkeys(eog, -math.inf))
    return np.array(list(biases), np.int64), np.array(list(biases.values()), np.float32)
