"""Log-probabilities of a chosen token and its best alternatives, from the model's own distribution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from server.types import Logprob
from server.worker.engine.candidates import LOWEST, Ids, Row, Shortlist, everything


def logprob(row: Row, token: int, top: int, piece: Callable[[int], bytes]) -> Logprob:
    """``row``: raw logits, before any penalty or mask. ``top``: how many of the best to list, most likely first."""
    best = row.max()
    total = float(best) + float(np.log(np.exp(row - best).sum(dtype=np.float64)))

    def entry(token: int, alternatives: tuple[Logprob, ...] = ()) -> Logprob:
        data = piece(token)
        value = max(float(row[token]) - total, LOWEST)  # JSON cannot carry -inf
        return Logprob(data.decode("utf-8", "replace"), tuple(data), value, alternatives)

    return entry(token, tuple(entry(int(other)) for other in _best(row, top)))


def _best(row: Row, top: int) -> Ids:
    if top <= 0:
        return np.zeros(0, np.int64)
    ids, logits = Shortlist(row.size, top).best(row) if Shortlist.suits(row.size, top) else everything(row)
    return ids[np.lexsort((ids, -logits))[:top]]
