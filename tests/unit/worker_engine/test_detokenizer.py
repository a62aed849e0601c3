"""Text comes out whole, however tokens cut its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.worker.engine.detokenizer import Detokenizer


def run(pieces: list[bytes]) -> list[str]:
    detokenizer = Detokenizer(lambda token: pieces[token])
    return [*(detokenizer.feed(token) for token in range(len(pieces))), detokenizer.flush()]


@given(st.text(max_size=8), st.data())
def test_any_cut_of_valid_text(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    output = run(pieces)
    assert "".join(output) == text
    assert "\ufffd" in text or not any("\ufffd" in part for part in output)


def test_every_single_split_of_every_length() -> None:
    for character in "aé€🦙":
        raw = character.encode()
        for at in range(len(raw) + 1):
            assert "".join(run([raw[:at], raw[at:]])) == character
        assert run([bytes([byte]) for byte in raw]) == [""] * (len(raw) - 1) + [character, ""]


@given(st.lists(st.binary(max_size=5), max_size=8))
def test_broken_bytes_are_replaced_the_same_way_however_cut(pieces: list[bytes]) -> None:
    assert "".join(run(pieces)) == b"".join(pieces).decode("utf-8", "replace")


def test_an_unfinished_character_is_shown_at_the_end_only() -> None:
    assert run([b"ok ", b"\xf0\x9f"]) == ["ok ", "", "\ufffd"]
    assert run([b"\xf0\x9f", b"x"]) == ["", "\ufffdx", ""]
