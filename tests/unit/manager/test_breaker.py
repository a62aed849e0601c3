"""When a model that crashes is left alone, and when it is tried again."""

from __future__ import annotations

from server.manager.breaker import Breaker


def test_three_crashes_within_a_minute() -> None:
    breaker = Breaker()
    for now in (0.0, 20.0, 59.0):
        assert breaker.pause("a", now) == 0
        breaker.crashed("a", now)
    assert breaker.pause("a", 60.0) == 29.0
    assert breaker.pause("b", 60.0) == 0


def test_crashes_far_apart_are_borne() -> None:
    breaker = Breaker()
    for now in (0.0, 31.0, 62.0, 93.0):
        breaker.crashed("a", now)
        assert breaker.pause("a", now) == 0


def test_answers_in_between_do_not_excuse_crashes() -> None:
    breaker = Breaker()
    for now in (0.0, 1.0, 2.0):
        breaker.crashed("a", now)
        breaker.worked("a")
    assert breaker.pause("a", 3.0) > 0


def opened() -> Breaker:
    breaker = Breaker()
    for now in (0.0, 1.0, 2.0):
        breaker.crashed("a", now)
    return breaker


def test_one_crash_in_the_trial_means_another_pause() -> None:
    breaker = opened()
    assert breaker.pause("a", 32.0) == 0
    breaker.crashed("a", 100.0)
    assert breaker.pause("a", 101.0) == 29.0


def test_a_trial_that_works_ends_it() -> None:
    breaker = opened()
    assert breaker.pause("a", 32.0) == 0
    breaker.worked("a")
    breaker.crashed("a", 33.0)
    assert breaker.pause("a", 34.0) == 0
