"""Reading text that is still arriving: small generators that yield where they need more of it.

A reader is a generator over a ``Source``; ``yield from`` puts readers together. ``NoCall`` is raised where the text
turns out not to be what was looked for.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TypeVar

from server.worker.chat.formats.calls import JsonScanner
from server.worker.chat.formats.row import cores, parts

T = TypeVar("T")
Reading = Generator[None, None, T]


class NoCall(Exception):
    """What stands before ``at`` is no call (nor is there one inside of it)."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class Source:
    """``text`` from the place on where an attempt began; ``at``: how far it got. ``final``: no more will come."""

    __slots__ = ("at", "final", "text")

    def __init__(self) -> None:
        self.text, self.at, self.final = "", 0, False

    def take(self, size: int) -> str:
        """Removes the first ``size`` characters."""
        taken, self.text, self.at = self.text[:size], self.text[size:], 0
        return taken

    def starts(self, *marks: str) -> bool:
        return self.text.startswith(marks, self.at)


def space(src: Source) -> Reading[None]:
    """Skips white space."""
    while True:
        size = len(src.text)
        while src.at < size and src.text[src.at].isspace():
            src.at += 1
        if src.at < size or src.final:
            return
        yield


def meets(src: Source, *marks: str) -> Reading[str]:
    """The longest of ``marks`` that stands here, "" if none does."""
    longest = max(map(len, marks), default=0)
    while True:
        here = src.text[src.at : src.at + longest]
        if src.final or not any(len(here) < len(mark) and mark.startswith(here) for mark in marks):
            return max((mark for mark in marks if here.startswith(mark)), key=len, default="")
        yield


def until(src: Source, *marks: str, reach: int = 0) -> Reading[tuple[str, str]]:
    """The text before the first of ``marks``, and that mark; goes on behind it. ``reach``: no farther than that."""
    begin = look = src.at
    longest = max(map(len, marks))
    pattern = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))
    while True:
        found = pattern.search(src.text, look)
        if found and not (reach and found.start() - begin > reach):
            src.at = found.end()
            return src.text[begin : found.start()], found.group()
        if found or src.final or (reach and len(src.text) - begin > reach + longest):
            raise NoCall(begin)
        look = max(begin, len(src.text) - longest + 1)
        yield


def literal(src: Source, text: str) -> Reading[bool]:
    """``text`` with whatever white space it has for its new lines; False (and nothing read) if it is not here."""
    start = src.at
    for number, core in enumerate(cores(text)):
        if number or text[0].isspace():
            yield from space(src)
        if not (yield from meets(src, core)):
            src.at = start
            return False
        src.at += len(core)
    return True


def pattern(src: Source, text: str, *stops: str) -> Reading[dict[str, str]]:
    """``text``, and what stands in place of its fields; where a field comes last, it ends before one of ``stops``."""
    found: dict[str, str] = {}
    pieces = parts(text)
    for number, piece in enumerate(pieces):
        if not piece.startswith("{") or len(piece) == 1:
            if number == 0 and not (yield from literal(src, piece)):
                raise NoCall(src.at)
            continue
        following = pieces[number + 1] if number + 1 < len(pieces) else ""
        ends = cores(following)[:1]
        value, end = yield from until(src, *ends, *stops)
        src.at -= len(end)
        found[piece[1:-1]] = value.strip()
        if ends and not (yield from literal(src, following)):
            raise NoCall(src.at)
    return found


def json_value(src: Source, *stops: str, quotes: str = '"') -> Reading[str]:
    """A bracketed value; one of ``stops`` outside its texts proves that it is none."""
    begin = src.at
    scanner = JsonScanner(*stops, quotes=quotes)
    while (size := scanner.end(src.text[begin:])) < 0:
        if scanner.broken or src.final:
            raise NoCall(begin)
        yield
    src.at = begin + size
    return src.text[begin : src.at]
