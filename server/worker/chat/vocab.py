"""The vocabulary as this room needs it; the backend has the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Vocab(Protocol):
    add_bos: bool
    add_eos: bool
    bos: int
    eos: int
    n_vocab: int

    @property
    def eog(self) -> frozenset[int]: ...

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str: ...

    def piece(self, token: int) -> bytes: ...
