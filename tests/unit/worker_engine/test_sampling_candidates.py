"""The best k of a row: exact against a full sort, whatever the sizes, ties and forbidden tokens."""

from __future__ import annotations

import numpy as np
import pytest

from server.worker.engine.candidates import SamplingError, Shortlist, everything, nucleus


def gaussian(n_vocab: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n_vocab) * 3).astype(np.float32)


@pytest.mark.parametrize("n_vocab", [4, 7, 160, 496, 4096, 4099, 32000, 128256, 151936])
@pytest.mark.parametrize("k", [1, 2, 20, 40, 1000])
def test_shortlist_holds_the_k_best(n_vocab: int, k: int) -> None:
    if not Shortlist.suits(n_vocab, k):
        return
    row = gaussian(n_vocab, k)
    ids, logits = Shortlist(n_vocab, k).best(row)
    assert set(np.argsort(row)[-k:]) <= set(ids.tolist())
    assert len(set(ids.tolist())) == ids.size
    assert (row[ids] == logits).all()
    assert ids.size < 3 * k + 8


def test_shortlist_of_adversarial_layouts() -> None:
    n_vocab, k = 1003, 40
    rows = [
        np.zeros(n_vocab, np.float32),
        np.arange(n_vocab, dtype=np.float32),
        -np.arange(n_vocab, dtype=np.float32),
        np.where(np.arange(n_vocab) >= n_vocab - k, 5, 0).astype(np.float32),
        np.where(np.arange(n_vocab) % 26 == 0, 5, 0).astype(np.float32),
    ]
    for row in rows:
        ids, _ = Shortlist(n_vocab, k).best(row)
        assert sorted(row[ids])[-k:] == sorted(row)[-k:]


@pytest.mark.parametrize("allowed", [1, 3, 39, 40, 41, 500])
def test_forbidden_tokens_are_never_candidates(allowed: int) -> None:
    row = gaussian(4099)
    free = np.random.default_rng(1).choice(4099, allowed, replace=False)
    masked = np.full(4099, -np.inf, np.float32)
    masked[free] = row[free]
    ids, logits = Shortlist(4099, 40).best(masked)
    assert np.isfinite(logits).all()
    assert set(ids.tolist()) <= set(free.tolist())
    assert ids.size >= min(allowed, 40)
    assert set(everything(masked)[0].tolist()) == set(free.tolist())


@pytest.mark.parametrize("n_vocab", [4096, 4099, 151_939])
def test_what_is_not_a_number_is_an_error_wherever_it_stands(n_vocab: int) -> None:
    shortlist = Shortlist(n_vocab, 40)
    for at in (0, 1, 77, n_vocab // 2, n_vocab - 2, n_vocab - 1):
        for value in (np.nan, np.inf):
            row = gaussian(n_vocab)
            row[at] = value
            for find in (shortlist.best, everything, lambda row: nucleus(row, 0.9)):
                with pytest.raises(SamplingError, match="not numbers"):
                    find(row)


def test_a_row_without_any_allowed_token_is_an_error() -> None:
    row = np.full(4096, -np.inf, np.float32)
    for find in (Shortlist(4096, 40).best, everything):
        with pytest.raises(SamplingError, match="no token is left"):
            find(row)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.999, 0.9999999])
@pytest.mark.parametrize("scale", [0.1, 1, 5])
def test_nucleus_against_a_plain_reference(p: float, scale: float) -> None:
    row = gaussian(2000) * np.float32(scale)
    weights = np.exp(row.astype(np.float64) - row.max())
    order = np.argsort(-weights, kind="stable")
    expected = order[: int(np.searchsorted(np.cumsum(weights[order]) / weights.sum(), p)) + 1]
    ids, logits = nucleus(row, p)
    assert abs(ids.size - expected.size) <= (p > 0.99999) * 5
    assert ids[:10].tolist() == expected[:10].tolist()
    assert (row[ids] == logits).all()
