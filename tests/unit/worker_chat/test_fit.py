"""Which messages and tokens remain of a prompt that is too long."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidRequest
from server.worker.chat.fit import TOO_LONG, CannotRender, Rendered, Spelt, cut_middle, drop_oldest, without_oldest


def message(role: str, content: str) -> Spelt:
    return {"role": role, "content": content}


def render(messages: Sequence[Spelt]) -> Rendered:
    text = "".join(f"{m['role'][0]}{m['content']}" for m in messages)
    return Rendered(text, [ord(c) for c in text])


def fit(messages: Sequence[Spelt], window: int) -> str:
    return drop_oldest(messages, render(messages), render, window).text


TALK = [message("system", "S"), message("user", "a"), message("assistant", "b"), message("system", "T"),
        message("user", "c"), message("assistant", "d"), message("user", "e")]  # fmt: skip


@pytest.mark.parametrize(
    ("window", "text"),
    [(14, "sSuaabsTucadue"), (13, "sSabsTucadue"), (12, "sSabsTucadue"), (11, "sSsTucadue"), (10, "sSsTucadue"),
     (9, "sSsTadue"), (8, "sSsTadue"), (7, "sSsTue"), (6, "sSsTue"), (5, "sSsTue"), (1, "sSsTue")],
)  # fmt: skip
def test_the_oldest_messages_go_and_systems_and_the_last_stay(window: int, text: str) -> None:
    assert fit(TALK, window) == text


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text("xyz", max_size=9)), min_size=2),
       st.integers(1, 99))  # fmt: skip
def test_as_few_as_possible_are_dropped(talk: list[tuple[str, str]], window: int) -> None:
    messages = [message(role, content) for role, content in talk]
    full = render(messages)
    if len(full.tokens) <= window:
        return
    slow = next(
        (r for n in range(1, len(talk)) if len((r := render(without_oldest(messages, n))).tokens) <= window),
        render(without_oldest(messages, len(talk) - 1)),
    )
    assert drop_oldest(messages, full, render, window).text == slow.text


def test_few_and_small_renderings_are_enough() -> None:
    messages = [message("user", "x" * 9)] * 1000
    sizes: list[int] = []

    def counted(some: Sequence[Spelt]) -> Rendered:
        sizes.append(len(some))
        return render(some)

    assert len(drop_oldest(messages, render(messages), counted, 55).tokens) == 50
    assert len(sizes) <= 11
    assert sum(sizes) < 50  # a conversation of megabytes holds up the others' answers once, not at every try


def test_what_the_template_refuses_is_passed_over() -> None:
    def picky(messages: Sequence[Spelt]) -> Rendered:
        if messages[0]["role"] != "user":
            raise CannotRender("a conversation begins with a user")
        return render(messages)

    talk = [message("user", "aaa"), message("assistant", "bbb")] * 4 + [message("user", "c")]
    assert drop_oldest(talk, picky(talk), picky, 20).text == "uaaaabbb" * 2 + "uc"
    assert drop_oldest(talk, picky(talk), picky, 17).text == "uaaaabbb" + "uc"
    assert drop_oldest(talk, picky(talk), picky, 1).text == "uc"


@pytest.mark.parametrize(
    ("length", "window", "num_keep", "bos", "kept", "left"),
    [
        (100, 100, 4, False, 100, 100),
        (101, 100, 4, False, 4, 52),  # 100 - (100 - 4) // 2
        (5000, 100, 4, False, 4, 52),
        (101, 100, 4, True, 5, 53),  # 100 - (100 - 5) // 2
        (300, 256, 4, True, 5, 131),
        (300, 256, 0, False, 0, 128),
        (300, 256, 100, False, 100, 178),
        (300, 256, 999, True, 254, 255),
        (300, 256, -1, True, 254, 255),  # all of the prompt
        (9, 4, 4, False, 2, 3),
    ],
)
def test_half_the_window_is_filled(length: int, window: int, num_keep: int, bos: bool, kept: int, left: int) -> None:
    tokens = list(range(length))
    cut = cut_middle(tokens, window, num_keep, bos=bos, shift=True)
    assert len(cut) == left
    assert cut == (tokens if left == length else tokens[:kept] + tokens[length - (left - kept) :])


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 200), st.booleans())
def test_a_cut_prompt_always_fits_and_ends_as_it_did(length: int, window: int, num_keep: int, bos: bool) -> None:
    tokens = list(range(length))
    cut = cut_middle(tokens, window, num_keep, bos=bos, shift=True)
    assert 0 < len(cut) <= window
    assert cut[-1] == tokens[-1]


def test_without_shift_a_long_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequest) as error:
        cut_middle([1] * 11, 10, 4, bos=False, shift=False)
    assert error.value.message == TOO_LONG
    assert cut_middle([1] * 10, 10, 4, bos=False, shift=False) == [1] * 10
