from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from server.cli.wrap import AnswerText, WordWrap


def screen(text: str) -> str:
    """What a terminal shows: the only controls used are "n columns back, erase to the end"."""
    for _ in range(text.count("\x1b[K") + 1):
        text = re.sub(
            r"^(.*?)\x1b\[(\d+)D\x1b\[K", lambda m: m[1][: len(m[1]) - int(m[2])], text, count=1, flags=re.DOTALL
        )
    return text


def test_a_word_moves_to_the_next_line_whole() -> None:
    wrap = WordWrap(30)
    shown = screen("".join(wrap.feed(piece) for piece in ("one two three four", " five s", "ix seven")))
    assert shown == "one two three four five \nsix seven"


@given(st.lists(st.text(alphabet="abc d\n", max_size=12), max_size=30))
def test_wrapping_loses_no_word_and_keeps_the_edge(pieces: list[str]) -> None:
    wrap = WordWrap(24)
    shown = screen("".join(map(wrap.feed, pieces)))
    assert shown.replace("\n", "").replace(" ", "") == "".join(pieces).replace("\n", "").replace(" ", "")
    assert all(len(line) <= 24 for line in shown.split("\n"))


def test_without_columns_text_is_left_alone() -> None:
    assert WordWrap(0).feed("x" * 500) == "x" * 500


def test_thinking_is_grey_between_its_marks() -> None:
    text = AnswerText(0, plain=False)
    assert text.feed("hm", "") == "\x1b[38;5;245m\x1b[1mThinking...\n\x1b[0m\x1b[38;5;245mhm"
    assert text.feed("", "Yes") == "\n\x1b[38;5;245m\x1b[1m...done thinking.\n\n\x1b[0mYes"
    assert text.close() == ""


def test_thinking_is_plain_in_a_pipe_and_can_be_hidden() -> None:
    plain = AnswerText(0, plain=True)
    assert plain.feed("hm\n", "") + plain.close() == "Thinking...\nhm\n...done thinking.\n\n"
    hidden = AnswerText(0, plain=True, hide_thinking=True)
    assert hidden.feed("hm", "") + hidden.feed("", "Yes") + hidden.close() == "Yes"


def test_a_model_cannot_steer_the_terminal() -> None:
    assert AnswerText(0, plain=False).feed("", "a\x1b]0;title\x07\x9b2J\tb\n") == "a]0;title2J\tb\n"
    assert AnswerText(0, plain=True).feed("", "a\x1b[1m") == "a\x1b[1m"
