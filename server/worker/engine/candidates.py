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


LOWEST = float(np.finfo(np.float32).min)  # below it there is only -inf


def _fold(values: Row, rows: int, maxima: Row) -> None:
    """Folds ``values`` into ``rows`` rows and a rest; writes each column's maximum."""
    columns = maxima.size
    np.maximum.reduce(values[: rows * columns].reshape(rows, columns), axis=0, out=maxima)
    rest = values.size - rows * columns
    if rest:
        np.maximum(maxima[:rest], values[-rest:], out=maxima[:rest])


class Shortlist:
    """Finds the ``k`` best of rows of ``n_vocab`` logits."""

    def __init__(self, n_vocab: int, k: int) -> None:
        ideal = max(1, min(int(1.4 * (n_vocab / k) ** 0.5), n_vocab // k))
        # a fold without rest saves some steps, and vocabularies are mostly round numbers
        self._rows = min(range(ideal * 2 // 3 or 1, ideal * 4 // 3 + 1), key=lambda n: (n_vocab % n, abs(n - ideal)))
        columns = n_vocab // self._rows
        self._k = min(k, columns)
        self._maxima = np.empty(columns, np.float32)
        # sorting out the k-th of many maxima is the dearest step: a second fold makes them fewer
        self._coarse = np.empty(columns // 4, np.float32) if columns >= 16 * k else None

    @staticmethod
    def suits(n_vocab: int, k: int) -> bool:
        """Whether looking for ``k`` is cheaper than taking them all."""
        return 0 < k <= 1024 and 4 * k <= n_vocab

    def best(self, row: Row) -> tuple[Ids, Row]:
        """Ids and logits, unordered: all of the ``k`` best, and rarely a few more; none that is -inf."""
        rows, maxima = self._rows, self._maxima
        columns = maxima.size
        _fold(row, rows, maxima)
        threshold = self._threshold()
        kept = (maxima >= threshold).nonzero()[0]
        values = row[: rows * columns].reshape(rows, columns).take(kept, axis=1).ravel()
        hits = (values >= threshold).nonzero()[0]
        line, column = np.divmod(hits, kept.size)
        ids, logits = line * columns + kept[column], values[hits]
        rest = row.size - rows * columns
        if not rest:
            return ids, logits
        more = (row[-rest:] >= threshold).nonzero()[0] + rows * columns
        return np.concatenate((ids, more)), np.concatenate((logits, row[more]))

    def _threshold(self) -> float:
        """A logit that at least ``k`` reach, or all that are not forbidden."""
        maxima, k = self._maxima, self._k
        if self._coarse is not None:
            _fold(maxima, 4, self._coarse)
            maxima = self._coarse
        top = np.partition(maxima, maxima.size - k)[maxima.size - k :]
        best = float(top.max())  # NaN if there is one anywhere in the row
        if not -np.inf < best < np.inf:
            raise refuse(best)
        return max(float(top[0]), LOWEST)


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
