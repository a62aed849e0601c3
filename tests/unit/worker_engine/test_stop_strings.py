"""Stop strings: found however the text is cut, never sent, and held back no longer than needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.worker.engine.stops import StopMatcher

ALPHABET = "ab.\n^]"


def run(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, str]:
    matcher, sent = StopMatcher(stops), ""
    for piece in pieces:
        text, hit = matcher.feed(piece)
        sent += text
        if hit:
            return sent, hit
    return sent + matcher.flush(), ""


def first(stops: tuple[str, ...], text: str) -> tuple[str, str]:
    """The definition: read letter by letter, the first moment at which a stop string is complete."""
    for end in range(1, len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            stop = max(hits, key=len)
            return text[: end - len(stop)], stop
    return text, ""


@given(
    st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.text(ALPHABET, max_size=4), max_size=12),
)
def test_every_cut_gives_the_defined_answer(stops: list[str], pieces: list[str]) -> None:
    assert run(tuple(stops), pieces) == first(tuple(stops), "".join(pieces))


@given(st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=3), st.text(ALPHABET, max_size=12))
def test_only_what_may_begin_a_stop_string_is_held_back(stops: list[str], text: str) -> None:
    matcher = StopMatcher(tuple(stops))
    sent, hit = matcher.feed(text)
    if not hit:
        held = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        assert sent == text[: len(text) - held]
        assert matcher.flush() == text[len(text) - held :]
        assert matcher.flush() == ""


@pytest.mark.parametrize("stops", [(), ("",)])
def test_without_stop_strings_everything_passes(stops: tuple[str, ...]) -> None:
    assert run(stops, ["a", "", "b"]) == ("ab", "")


def test_a_stop_string_over_many_tokens() -> None:
    assert run(("<|im_end|>",), ["Hi", " <", "|im", "_end", "|", "> more"]) == ("Hi ", "<|im_end|>")
    assert run(("<|im_end|>",), ["Hi", " <", "|im", "_en", "t|>"]) == ("Hi <|im_ent|>", "")


def test_characters_outside_the_basic_plane() -> None:
    assert run(("🦙!",), ["a🦙", "🦙", "!b"]) == ("a🦙", "🦙!")
