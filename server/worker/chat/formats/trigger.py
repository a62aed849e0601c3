"""Notices in the bytes of an answer where its first call begins, token by token."""

from __future__ import annotations

from collections.abc import Collection

from server.worker.chat.formats.render import HARMONY_CALL
from server.worker.chat.formats.row import ToolFormat


class Trigger:
    """``marks``: what opens a call. ``anchored``: only at the start of the answer, white space apart."""

    def __init__(self, marks: Collection[str], *, anchored: bool = False) -> None:
        self._marks = tuple(mark.encode() for mark in marks)
        self._anchored = anchored
        self._keep = max(map(len, self._marks), default=1) - 1
        self._tail = b""
        self._dead = not self._marks
        self.fired = False

    def begun(self, piece: bytes) -> bytes | None:
        """From its opening on, the call that the answer with ``piece`` would have begun; None if it has not."""
        if self._dead or self.fired:
            return None
        text = self._tail + piece
        if self._anchored:
            return start if (start := text.lstrip()).startswith(self._marks) else None
        places = [at for mark in self._marks if (at := text.find(mark)) >= 0]
        return text[min(places) :] if places else None

    def feed(self, piece: bytes) -> None:
        if self.begun(piece) is not None:
            self.fired = True
        text = self._tail + piece
        if not self._anchored:
            self._tail = text[len(text) - min(self._keep, len(text)) :]
            return
        start = text.lstrip()
        self._tail = start
        self._dead |= not any(mark.startswith(start) or start.startswith(mark) for mark in self._marks)


def trigger(row: ToolFormat, names: Collection[str]) -> Trigger:
    if row.kind == "harmony":
        return Trigger([HARMONY_CALL.partition("{name}")[0]])
    if row.name == "llama4":
        return Trigger([f"[{name}(" for name in names], anchored=True)
    if not row.openings or row.openings == row.also:
        return Trigger([*(f'{{"name":{gap}"{name}"' for name in names for gap in ("", " ")), *row.also], anchored=True)
    first = next(text.strip() for text in (row.section[0], row.call[0]) if text.strip())
    return Trigger({first, first.replace("\n", " "), first.replace("\n", ""), *row.also})
