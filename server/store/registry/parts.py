"""How a download is cut into parts, and the notes about them that survive a restart. Pure.

The notes have Ollama's form, one JSON file per part: ``{"N":0,"Offset":0,"Size":104857600,"Completed":1234}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

MIN_PART, MAX_PART, WANTED_PARTS = 16_000_000, 256_000_000, 64


@dataclass(slots=True)
class Part:
    """Bytes ``offset`` … ``offset + size``; the first ``completed`` of them are in the file."""

    number: int
    offset: int
    size: int
    completed: int = 0

    @property
    def start(self) -> int:
        """The first byte that is still wanted."""
        return self.offset + self.completed

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def left(self) -> int:
        return self.size - self.completed

    def note(self) -> bytes:
        raw = {"N": self.number, "Offset": self.offset, "Size": self.size, "Completed": self.completed}
        return json.dumps(raw, separators=(",", ":")).encode()


def plan(total: int, part_size: int = 0) -> list[Part]:
    """Small parts claimed in order: the hash, which must go front to back, is never far behind the network."""
    size = part_size or min(max(total // WANTED_PARTS, MIN_PART), MAX_PART)
    return [Part(n, offset, min(size, total - offset)) for n, offset in enumerate(range(0, total, size))]


def resume(notes: Iterable[bytes], total: int, present: int) -> list[Part] | None:
    """The parts that the notes of an earlier run tell of; None unless they cover exactly ``total`` bytes.

    ``present``: bytes in the file. Nothing beyond them can be completed, whatever a note says.
    """
    parts = [_read(note) for note in notes]
    found = sorted((part for part in parts if part is not None), key=lambda part: part.offset)
    if len(found) != len(parts) or not found:
        return None
    at = 0
    for number, part in enumerate(found):
        if part.offset != at or part.number != number:
            return None
        at = part.end
        part.completed = min(part.completed, max(0, present - part.offset))
    return found if at == total else None


def _read(note: bytes) -> Part | None:
    try:
        raw = json.loads(note)
        values = [raw[key] for key in ("N", "Offset", "Size", "Completed")]
    except (ValueError, KeyError, TypeError):
        return None
    if not all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values):
        return None
    part = Part(*values)
    return part if part.size > 0 and part.completed <= part.size else None


def prefix(parts: list[Part]) -> int:
    """How many bytes from the beginning are there without a gap."""
    for part in parts:
        if part.left:
            return part.start
    return parts[-1].end if parts else 0
