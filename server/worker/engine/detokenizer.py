"""Tokens to text as they come: a character that is split over tokens is held back until it is whole."""

from __future__ import annotations

import codecs
from collections.abc import Callable

_utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """One sequence's decoder. What can never become UTF-8 is U+FFFD."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._decode = _utf8("replace").decode

    def feed(self, token: int) -> str:
        return self._decode(self._piece(token))

    def flush(self) -> str:
        """The end: what is still held back can no longer be completed."""
        return self._decode(b"", True)
