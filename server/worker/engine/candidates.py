"""The best few of a row of logits, found without sorting it.

A row is folded into columns and each column's maximum taken: at least ``k`` values reach the ``k``-th largest
maximum, and only columns that reach it can hold one of the ``k`` best. Exact, about one pass over the row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from server.errors import RunnerError

Row = NDArray[np.float32]
Ids = NDArray[np.int64]


class SamplingError(RunnerError):
    """No token can be drawn from this row."""


def refuse(best: float) -> SamplingError:
    """Why a row whose largest logit is ``best`` (not finite) offers no token."""
    if best == -np.inf:
        return SamplingError("no token is left to choose from: every one is forbidden")
    return SamplingError("the model computed logits that are not numbers; its weights may be damaged")


class Shortlist:
    """Finds the ``k`` best of rows of ``n_vocab`` logits."""

    def __init__(self, n_vocab: int, k: int) -> None:
        ideal = max(1, min(int(1.4 * (n_vocab / k) ** 0.5), n_vocab // k))
        # a fold without remainder saves the pass over the tail, and vocabularies are mostly round numbers
        self._rows = min(range(ideal * 2 // 3 or 1, ideal * 4 // 3 + 1), key=lambda n: (n_vocab % n, abs(n - ideal)))
        self._columns = n_vocab // self._rows
        self._k = min(k, self._columns)
        self._tail = n_vocab - self._rows * self._columns
        self._maxima = np.empty(self._columns, np.float32)

    @staticmethod
    def suits(n_vocab: int, k: int) -> bool:
        """Whether looking for ``k`` is cheaper than taking them all."""
        return 0 < k <= 1024 and 4 * k <= n_vocab

    def best(self, row: Row) -> tuple[Ids, Row]:
        """Ids and logits, unordered: all of the ``k`` best, and rarely a few more; none that is -inf."""
        columns, k = self._columns, self._k
        folded = row[: self._rows * columns].reshape(self._rows, columns)
        maxima = np.maximum.reduce(folded, axis=0, out=self._maxima)
        if self._tail:
            np.maximum(maxima[: self._tail], row[-self._tail :], out=maxima[: self._tail])
        top = np.partition(maxima, columns - k)[columns - k :]
        best = float(top.max())  # NaN if there is one anywhere in the row
        if not -np.inf < best < np.inf:
            raise refuse(best)
        threshold = max(top[0], np.finfo(np.float32).min)
        kept = (maxima >= threshold).nonzero()[0]
        values = folded.take(kept, axis=1).ravel()
        hits = (values >= threshold).nonzero()[0]
        ids = hits // kept.size * columns + kept[hits % kept.size]
        if not self._tail:
            return ids, values[hits]
        tail = (row[-self._tail :] >= threshold).nonzero()[0] + self._rows * columns
        return np.concatenate((ids, tail)), np.concatenate((values[hits], row[tail]))


def everything(row: Row) -> tuple[Ids, Row]:
    """Ids and logits of all tokens that are not -inf."""
    best = float(row.max())
    if not -np.inf < best < np.inf:
        raise refuse(best)
    if row.min() > -np.inf:
        return np.arange(row.size), row
    ids = (row > -np.inf).nonzero()[0]
    return ids, row[ids]


def nucleus(row: Row, p: float) -> tuple[Ids, Row]:
    """The fewest tokens whose probabilities add up to ``p``, most likely first."""
    ids, logits = everything(row)
    weights = np.exp(logits - logits.max())
    target = p * float(weights.sum(dtype=np.float64))
    for least in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 0.0):  # sort no more than needed
        kept = (weights >= least).nonzero()[0]
        if float(weights[kept].sum(dtype=np.float64)) >= target:
            break
    kept = kept[np.argsort(-weights[kept], kind="stable")]
    size = int(np.searchsorted(np.cumsum(weights[kept], dtype=np.float64), target)) + 1
    return ids[kept[:size]], logits[kept[:size]]
