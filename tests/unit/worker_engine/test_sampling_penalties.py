"""Penalties against plain references, and DRY against llama.cpp's own."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.types import LoadOptions, Sampling
from server.worker.backends.llamacpp.chain import CANDIDATE
from server.worker.backends.llamacpp.library import lib
from server.worker.backends.llamacpp.model import Model, Vocabulary
from server.worker.engine.penalties import DRY_BREAKERS, Dry, Penalties

NANO = Path(__file__).parents[2] / "golden" / "models" / "nano.gguf"
N_VOCAB = 30
tokens = st.lists(st.integers(0, N_VOCAB - 1), max_size=90)


def noise(n_vocab: int = N_VOCAB) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(n_vocab).astype(np.float32)


def reference(sampling: Sampling, history: list[int], row: np.ndarray) -> np.ndarray:
    last = sampling.repeat_last_n
    row = row.astype(np.float64)
    for token, count in Counter(history if last < 0 else history[-last:] if last else []).items():
        row[token] = row[token] / sampling.repeat_penalty if row[token] > 0 else row[token] * sampling.repeat_penalty
        row[token] -= count * sampling.frequency_penalty + sampling.presence_penalty
    return row


@given(
    prompt=tokens,
    answer=tokens,
    last=st.sampled_from([-1, 1, 2, 7, 64]),
    repeat=st.sampled_from([1.0, 0.5, 1.1, 2.0]),
    frequency=st.sampled_from([0.0, 0.3, -1.0]),
    presence=st.sampled_from([0.0, 1.5]),
)
def test_penalties_against_a_plain_reference(
    prompt: list[int], answer: list[int], last: int, repeat: float, frequency: float, presence: float
) -> None:
    sampling = Sampling(
        repeat_last_n=last, repeat_penalty=repeat, frequency_penalty=frequency, presence_penalty=presence
    )
    penalties = Penalties(sampling, prompt)
    for count, token in enumerate(answer):
        penalties.accept(token)
        if count % 10 == 0:
            row = noise()
            penalties.apply(row)
            np.testing.assert_allclose(row, reference(sampling, prompt + answer[: count + 1], noise()), rtol=1e-5)


def test_more_distinct_tokens_than_the_first_reservation() -> None:
    sampling = Sampling(repeat_last_n=-1, presence_penalty=1.0)
    penalties = Penalties(sampling, range(1000))
    row = np.zeros(2000, np.float32)
    penalties.apply(row)
    assert (row[:1000] == -1).all()
    assert not row[1000:].any()


@pytest.mark.parametrize(
    ("sampling", "wanted"),
    [
        (Sampling(), False),
        (Sampling(repeat_penalty=0), False),
        (Sampling(repeat_penalty=1.1), True),
        (Sampling(repeat_penalty=1.1, repeat_last_n=0), False),
        (Sampling(presence_penalty=-0.1), True),
    ],
)
def test_neutral_penalties_cost_nothing(sampling: Sampling, wanted: bool) -> None:
    assert Penalties.wanted(sampling) == wanted


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[Vocabulary]:
    model = Model(str(NANO), LoadOptions(), vocab_only=True)
    yield model.vocabulary
    model.close()


class LlamaDry:
    """llama.cpp's sampler, fed with the whole vocabulary."""

    def __init__(self, vocabulary: Vocabulary, sampling: Sampling) -> None:
        breakers = (ctypes.c_char_p * len(DRY_BREAKERS))(*DRY_BREAKERS)
        last = 4096 if sampling.dry_penalty_last_n < 0 else sampling.dry_penalty_last_n
        options = sampling.dry_multiplier, sampling.dry_base, sampling.dry_allowed_length, last
        self.sampler = lib.llama_sampler_init_dry(vocabulary.pointer, *options, breakers, len(breakers))
        self.accept: Callable[[int], None] = lambda token: lib.llama_sampler_accept(self.sampler, token)

    def apply(self, row: np.ndarray) -> None:
        candidates = np.zeros(row.size, CANDIDATE)
        candidates["id"], candidates["logit"] = np.arange(row.size), row
        data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(lib.llama_token_data))
        array = lib.llama_token_data_array(data, row.size, -1, False)
        lib.llama_sampler_apply(self.sampler, ctypes.byref(array))
        row[:] = candidates["logit"]


@pytest.mark.parametrize("allowed", [0, 1, 2, 5])
@pytest.mark.parametrize("last", [-1, 20, 200])
@pytest.mark.parametrize("base", [1.0, 1.2, 1.75])
def test_dry_is_llama_cpp_s(vocabulary: Vocabulary, allowed: int, last: int, base: float) -> None:
    sampling = Sampling(dry_multiplier=0.8, dry_base=base, dry_allowed_length=allowed, dry_penalty_last_n=last)
    random = np.random.default_rng(allowed)
    alphabet = [t for t in range(40, 60) if not any(b in vocabulary.piece(t) for b in DRY_BREAKERS)][:4]
    newline = next(t for t in range(vocabulary.n_vocab) if vocabulary.piece(t) == b"\n")
    text = random.choice(alphabet, 120).tolist()
    text[50] = newline
    text += text[20:45] + text[48:80] + [newline] + [alphabet[0]] * 40 + text[:30]
    ours, theirs = Dry(sampling, text[:100], vocabulary.piece), LlamaDry(vocabulary, sampling)
    for token in text[:100]:
        theirs.accept(token)
    touched = 0
    for token in text[100:]:
        ours.accept(token)
        theirs.accept(token)
        mine, other = noise(vocabulary.n_vocab), noise(vocabulary.n_vocab)
        ours.apply(mine)
        theirs.apply(other)
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)
        touched += bool((mine != noise(vocabulary.n_vocab)).any())
    assert touched > 10
    lib.llama_sampler_free(theirs.sampler)


@given(history=st.lists(st.integers(0, 2), max_size=60), rest=st.lists(st.integers(0, 2), max_size=5))
def test_dry_measures_a_prompt_as_it_would_have_grown(history: list[int], rest: list[int]) -> None:
    sampling = Sampling(dry_multiplier=0.8)
    at_once, grown = (Dry(sampling, start, lambda token: b"") for start in (history, []))
    for token in history:
        grown.accept(token)
    for more in [[], *([token] for token in rest)]:
        rows = np.zeros((2, 3), np.float32)
        for dry, row in zip((at_once, grown), rows, strict=True):
            for token in more:
                dry.accept(token)
            dry.apply(row)
        assert (rows[0] == rows[1]).all()


def test_a_long_monotonous_prompt_is_measured_in_time() -> None:
    dry = Dry(Sampling(dry_multiplier=0.8, dry_base=1.001), [1] * 20_000, lambda token: b"")
    row = np.zeros(3, np.float32)
    dry.apply(row)
    assert row[1] < 0
    assert np.isfinite(row).all()
