"""The pure decisions of the engine: grouping, budgets, order, and what is kept of old prefixes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.types import Limits, Sampling
from server.worker.engine.prefix_cache import Snapshots, regroup
from server.worker.engine.sampling import Sampler
from server.worker.engine.scheduler import Pace, plan_prompts, prompt_budget, stall_budget
from server.worker.engine.sequence import Sequence, common_prefix


def waiting(id: int, size: int, arrived: int = 0) -> Sequence:  # noqa: A002
    prompt = list(range(size))
    sampler = Sampler(Sampling(temperature=0), 64, frozenset(), prompt)
    sequence = Sequence(id, prompt, Limits(), sampler, answer=None, window=4096)  # type: ignore[arg-type]
    sequence.arrived, sequence.slot = arrived, id
    return sequence


@given(st.sets(st.integers(0, 15), max_size=16))
def test_regroup_makes_busy_slots_consecutive_with_the_fewest_moves(busy: set[int]) -> None:
    moves = regroup(sorted(busy), 16)
    after = (busy - {a for a, _ in moves}) | {b for _, b in moves}
    assert len(after) == len(busy)
    assert not after or max(after) - min(after) == len(after) - 1
    best = min(
        (len(busy - set(range(s, s + len(busy)))) for s in range(16 - len(busy) + 1)),
        default=0,
    )
    assert len(moves) == best


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_common_prefix_is_what_a_loop_finds(a: list[int], b: list[int]) -> None:
    expected = 0
    while expected < min(len(a), len(b)) and a[expected] == b[expected]:
        expected += 1
    assert common_prefix(np.array(a, np.int32), np.array(b, np.int32)) == expected


def test_snapshots_stay_within_their_budget_and_drop_the_oldest() -> None:
    kept = Snapshots(budget=100)
    for i in range(5):
        kept.add(np.full(40, i, np.int32), bytearray(40))
    assert kept.size == 80
    assert [int(e.tokens[0]) for e in kept] == [3, 4]


def test_a_longer_prefix_replaces_the_one_it_contains() -> None:
    kept = Snapshots(budget=100)
    kept.add(np.arange(10, dtype=np.int32), bytearray(10))
    kept.add(np.arange(20, dtype=np.int32), bytearray(20))
    assert [e.tokens.size for e in kept] == [20]
    length, entry = kept.longest(np.arange(15, dtype=np.int32), 14, whole=False)
    assert (length, entry is not None) == (14, True)
    assert kept.longest(np.arange(15, dtype=np.int32), 14, whole=True) == (0, None)


def test_the_budget_is_long_for_one_stream_and_short_for_many() -> None:
    assert stall_budget(1) > 2 * stall_budget(12)
    pace = Pace()
    pace.observe(100, 0.3)
    assert prompt_budget(0, pace, 512) == 512
    assert prompt_budget(1, pace, 512) == pytest.approx(stall_budget(1) / 0.003, abs=16)
    assert prompt_budget(12, pace, 512) < prompt_budget(1, pace, 512)


def test_short_prompts_go_first_but_long_ones_do_not_starve() -> None:
    long, short = waiting(0, 1500), waiting(1, 40)
    assert plan_prompts([long, short], 100, now_ns=0) == [(long, 60), (short, 40)]
    late = waiting(2, 40, arrived=int(20e9))
    assert plan_prompts([long, late], 100, now_ns=int(20e9)) == [(long, 100)]
