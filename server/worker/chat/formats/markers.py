"""Markers that may arrive in pieces."""

from __future__ import annotations


def held_back(text: str, *markers: str) -> int:
    """How many of the last characters of ``text`` may be the beginning of a marker."""
    longest = max(map(len, markers), default=0)
    for size in range(min(longest - 1, len(text)), 0, -1):
        tail = text[-size:]
        if any(marker.startswith(tail) for marker in markers):
            return size
    return 0
