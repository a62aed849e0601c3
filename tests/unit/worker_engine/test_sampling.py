"""The sampler's fast path draws what llama.cpp's whole chain draws: same seed, same tokens, same distribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from server.errors import InvalidRequest
from server.types import Sampling
from server.worker.backends.llamacpp.chain import Chain, reduce_seed
from server.worker.engine.sampling import Sampler, SamplingError

NO_EOG: frozenset[int] = frozenset()
OPTIONS = {
    "default": Sampling(),
    "top-k 1000": Sampling(top_k=1000),
    "hot": Sampling(temperature=2.5, top_p=1.0),
    "temperature 1": Sampling(temperature=1.0),
    "min-p after top-k": Sampling(min_p=0.1),
    "typical after top-k": Sampling(typical_p=0.5),
    "xtc": Sampling(xtc_probability=0.7, xtc_threshold=0.05),
    "dynamic temperature": Sampling(dynatemp_range=0.5, dynatemp_exponent=1.5),
    "min-p alone": Sampling(top_k=0, top_p=1.0, min_p=0.05),
    "top-p alone": Sampling(top_k=0, top_p=0.6),
    "top-p, then min-p": Sampling(top_k=0, top_p=0.95, min_p=0.1),
    "temperature alone": Sampling(top_k=0, top_p=1.0),
    "typical alone": Sampling(top_k=0, top_p=1.0, typical_p=0.4),
    "top-n-sigma": Sampling(top_n_sigma=1.5, top_k=0, top_p=1.0),
    "mirostat 1": Sampling(mirostat=1),
    "mirostat 2": Sampling(mirostat=2, mirostat_tau=3.0),
}


def rows(n_vocab: int, count: int, seed: int = 0) -> np.ndarray:
    """As a model's: a wide field and a few that stand out."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, n_vocab)) * 2
    for row in rows:
        row[random.integers(0, n_vocab, 30)] += 6
    return rows.astype(np.float32)


def whole(chain: Chain, row: np.ndarray) -> int:
    return chain.apply(np.arange(row.size), row)


@pytest.mark.parametrize("name", OPTIONS)
def test_same_tokens_as_the_whole_chain(name: str) -> None:
    n_vocab = 4500
    sampling = replace(OPTIONS[name], seed=7)
    sampler, chain = Sampler(sampling, n_vocab, NO_EOG, []), Chain(sampling, 7, n_vocab)
    ours, theirs = [], []
    for row in rows(n_vocab, 150):
        theirs.append(whole(chain, row))
        sampler.prepare(row)
        ours.append(sampler.draw(row))
        sampler.accept(ours[-1])
    sampler.close()
    chain.free()
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 1
    assert len(set(ours)) > 10


@pytest.mark.parametrize("name", ["default", "min-p alone", "top-p alone", "xtc", "hot"])
def test_same_distribution_as_the_whole_chain(name: str) -> None:
    """Chi-square of two samples; fixed seeds, so it either always passes or never."""
    n_vocab, draws = 4500, 4000
    row = rows(n_vocab, 1)[0]
    counts = np.zeros((2, n_vocab))
    sampler, chain = Sampler(replace(OPTIONS[name], seed=1), n_vocab, NO_EOG, []), Chain(OPTIONS[name], 2, n_vocab)
    for _ in range(draws):
        counts[0, sampler.draw(row)] += 1
    ids, logits = np.arange(n_vocab), row
    if OPTIONS[name].top_k > 0:  # the whole chain is slow; what top-k drops first cannot matter to it
        ids = np.argsort(-row)[:200]
        logits = row[ids]
    for _ in range(draws):
        counts[1, chain.apply(ids, logits)] += 1
    sampler.close()
    chain.free()
    common = counts.sum(axis=0) >= 10
    bins = np.column_stack((counts[:, common], counts[:, ~common].sum(axis=1)))
    bins = bins[:, bins.sum(axis=0) > 0]
    statistic = ((bins[0] - bins[1]) ** 2 / bins.sum(axis=0)).sum()
    freedom = bins.shape[1] - 1
    assert freedom >= 4
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(top_k=1), Sampling(temperature=0, mirostat=2)])
def test_greedy_takes_the_best(sampling: Sampling) -> None:
    sampler = Sampler(sampling, 4096, NO_EOG, [])
    for row in rows(4096, 20):
        assert sampler.draw(row) == row.argmax()
    sampler.close()


def draws(seed: int, count: int = 40) -> list[int]:
    sampler = Sampler(Sampling(seed=seed), 4096, NO_EOG, [])
    tokens = [sampler.draw(row) for row in rows(4096, count)]
    sampler.close()
    return tokens


def test_a_seed_decides_everything() -> None:
    assert draws(42) == draws(42)
    assert draws(42) != draws(43)


def test_without_a_seed_every_request_has_its_own() -> None:
    first, second = (Sampler(Sampling(), 4096, NO_EOG, []) for _ in range(2))
    assert first.seed != second.seed
    known = draws(first.seed)
    assert known == [first.draw(row) for row in rows(4096, 40)]
    first.close()
    second.close()


@pytest.mark.parametrize("seed", [0, 1, -2, 2**32 - 1, 2**32, 2**63 - 1, -(2**63)])
def test_any_64_bit_seed_is_taken_literally(seed: int) -> None:
    assert 0 <= reduce_seed(seed) < 2**32 - 1
    assert draws(seed) == draws(seed)


def test_a_second_draw_after_a_mask_obeys_it() -> None:
    for sampling in OPTIONS.values():
        sampler = Sampler(sampling, 4500, NO_EOG, [])
        row = rows(4500, 1)[0]
        first = sampler.draw(row)
        allowed = [17, 2000, 4499]
        masked = np.full(4500, -np.inf, np.float32)
        masked[allowed] = row[allowed]
        assert 0 <= first < 4500
        assert {sampler.draw(masked) for _ in range(20)} <= set(allowed)
        sampler.close()


@pytest.mark.parametrize("name", OPTIONS)
def test_broken_logits_are_an_error(name: str) -> None:
    sampler = Sampler(OPTIONS[name], 4500, NO_EOG, [])
    row = rows(4500, 1)[0]
    row[4321] = np.nan
    with pytest.raises(SamplingError, match="not numbers"):
        sampler.draw(row)
    sampler.close()


def test_biases_and_ignored_ends() -> None:
    sampling = Sampling(temperature=0, logit_bias={5: 100.0, 6: 99.5}, ignore_eos=True)
    sampler = Sampler(sampling, 100, frozenset({5, 7}), [])
    row = np.zeros(100, np.float32)
    sampler.prepare(row)
    assert row[7] == row[5] == -np.inf
    assert sampler.draw(row) == 6
    assert np.count_nonzero(row) == 3


@pytest.mark.parametrize("token", [-1, 100])
def test_a_bias_for_a_token_that_does_not_exist_is_refused(token: int) -> None:
    with pytest.raises(InvalidRequest, match=f"no token {token}"):
        Sampler(Sampling(logit_bias={token: 1.0}), 100, NO_EOG, [])


def test_closing_twice_is_harmless() -> None:
    sampler = Sampler(Sampling(), 4096, NO_EOG, [])
    sampler.close()
    sampler.close()
