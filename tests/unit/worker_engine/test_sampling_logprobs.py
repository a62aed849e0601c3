"""Log-probabilities against a softmax in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from server.worker.engine.candidates import LOWEST
from server.worker.engine.logprobs import logprob


def piece(token: int) -> bytes:
    return b"\xff" if token == 3 else f"t{token}".encode()


@pytest.mark.parametrize("n_vocab", [5, 496, 32000])
@pytest.mark.parametrize("top", [0, 1, 5, 20])
@pytest.mark.parametrize("shift", [0, -400, 1000])
def test_against_a_double_precision_softmax(n_vocab: int, top: int, shift: int) -> None:
    row = (np.random.default_rng(n_vocab).standard_normal(n_vocab) * 4 + shift).astype(np.float32)
    exact = row.astype(np.float64) - row.max()
    exact -= np.log(np.exp(exact).sum())
    given = row.copy()
    result = logprob(row, 2, top, piece)
    assert (row == given).all()
    assert result.token == "t2"
    assert result.bytes == tuple(b"t2")
    assert result.logprob == pytest.approx(exact[2], abs=2e-4)
    best = np.argsort(-row, kind="stable")[:top].tolist()
    assert [other.bytes for other in result.top] == [tuple(piece(token)) for token in best]
    assert [other.logprob for other in result.top] == pytest.approx(exact[best].tolist(), abs=2e-4)


def test_what_is_impossible_or_not_text() -> None:
    row = np.array([0, -np.inf, 0, 0], np.float32)
    result = logprob(row, 1, 4, piece)
    assert result.logprob == LOWEST
    assert len(result.top) == 3
    assert result.top[2].token == "\ufffd"
    assert result.top[2].bytes == (255,)
