"""Calls in the text of an answer, read by a row's markers while the text arrives.

Text around calls is content; white space and closing markers right behind a call are not. What turns out to be no
call of a known tool is content, too: nothing is swallowed.
"""

from __future__ import annotations

import re
from collections.abc import Generator

from server.types import Chunk
from server.worker.chat.formats.bodies import Tools, body, json_begins
from server.worker.chat.formats.calls import CallCounter
from server.worker.chat.formats.markers import held_back
from server.worker.chat.formats.row import IN_JSON, ToolFormat, cores
from server.worker.chat.formats.scan import NoCall, Reading, Source, literal, meets, space


class MarkedParser:
    """``row`` has openings, or is of kind ``python`` with calls at the start of the answer only."""

    def __init__(self, row: ToolFormat, tools: Tools, counter: CallCounter) -> None:
        self.marker = row.marker if row.openings != ("[",) else ""
        self._row, self._tools, self._counter = row, tools, counter
        self._plain = tuple(core for text in row.plain for core in cores(text))
        self._seek = re.compile("|".join(map(re.escape, (*self._plain, *row.openings))))
        self._src = Source()
        self._chunks: list[Chunk] = []
        self._content: list[str] = []
        self.in_call = False
        self._run: Generator[None, None, None] = self._answer() if self.marker else self._at_once()

    def feed(self, text: str) -> list[Chunk]:
        self._src.text += text
        return self._advance()

    def finish(self) -> list[Chunk]:
        self._src.final = True
        return self._advance()

    def _advance(self) -> list[Chunk]:
        next(self._run, None)
        self._flush()
        chunks, self._chunks = self._chunks, []
        return chunks

    def _flush(self) -> None:
        if content := "".join(self._content):
            self._chunks.append(Chunk(content=content))
        self._content = []

    # -- the whole answer -------------------------------------------------------------------------------

    def _answer(self) -> Generator[None, None, None]:
        src, row = self._src, self._row
        while True:
            found = self._seek.search(src.text)
            if not found:
                kept = 0 if src.final else held_back(src.text, *self._plain, *row.openings)
                self._content.append(src.take(len(src.text) - kept))
                if src.final:
                    return
                yield
                continue
            self._content.append(src.take(found.start()))
            if found.group() in self._plain:
                src.take(len(found.group()))
                continue
            try:
                yield from self._calls()
            except NoCall as error:
                self._content.append(src.take(max(error.at, 1)))
            self.in_call = False

    def _at_once(self) -> Generator[None, None, None]:
        """Only the beginning of the answer can be a call."""
        src = self._src
        try:
            yield from space(src)
            if src.starts(*self._row.openings):
                yield from self._calls()
        except NoCall:
            src.at = 0
        self.in_call = False
        while True:
            self._content.append(src.take(len(src.text)))
            if src.final:
                return
            yield

    def _calls(self) -> Reading[None]:
        """One call after the other, from an opening on."""
        src, row = self._src, self._row
        while True:
            self.in_call = True
            yield from self._open()
            calls = yield from body(src, row, self._tools)
            self._flush()
            self._chunks.append(Chunk(tool_calls=self._counter.number(calls)))
            src.take(src.at)
            self.in_call = False
            if not (yield from self._another()):
                return

    def _open(self) -> Reading[None]:
        row, src = self._row, self._src
        for text in (*row.also, row.section[0], row.call[0]):
            yield from space(src)
            if text and not (text in row.also and row.head.startswith(text)):
                yield from literal(src, text)

    def _another(self) -> Reading[bool]:
        """Behind a call: skips what closes it, and says whether another one follows."""
        src, row = self._src, self._row
        while True:
            yield from space(src)
            if not (mark := (yield from meets(src, *row.closings))):
                break
            src.at += len(mark)
        src.take(src.at)
        for separator in cores(row.between)[:1]:
            if (yield from meets(src, separator)):
                src.at += len(separator)
                yield from space(src)
        if row.openings and (yield from meets(src, *row.openings)):
            return True
        if row.kind in IN_JSON and (yield from json_begins(src)):
            return True
        if row.kind == "python" and (yield from meets(src, *(f"{name}(" for name in self._tools))):
            return True
        src.at = 0
        return False
