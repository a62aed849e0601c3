"""Calls without a marker: the answer itself is JSON, ``{"name": …, "parameters": {…}}`` or an array of such.

Only an answer whose first character (white space apart) is ``{`` or ``[`` can be a call. Several may follow
each other, separated by white space, ``;`` or ``,``. JSON that is no call is given back as it was. ``prefixes`` are
markers that may stand before a call all the same.
"""

from __future__ import annotations

from collections.abc import Collection

from server.types import Chunk
from server.worker.chat.formats.calls import CallCounter, JsonScanner, read_calls

SEPARATORS = " \t\r\n;,"


class BareParser:
    marker = ""

    def __init__(self, tools: Collection[str], counter: CallCounter, prefixes: tuple[str, ...] = ()) -> None:
        self._prefixes = prefixes
        self._tools = tools
        self._counter = counter
        self._held = ""
        self._scanner: JsonScanner | None = None
        self._called = False
        self._done = False
        self._final = False

    @property
    def in_call(self) -> bool:
        return self._scanner is not None

    def feed(self, text: str) -> list[Chunk]:
        if self._done:
            return [Chunk(content=text)] if text else []
        self._held += text
        chunks: list[Chunk] = []
        while not self._done and self._step(chunks):
            pass
        return chunks

    def _step(self, chunks: list[Chunk]) -> bool:
        """One move over the held text; False when more text is needed."""
        start = len(self._held) - len(self._held.lstrip(SEPARATORS if self._called else None))
        if start == len(self._held):
            return False
        rest = self._held[start:]
        for prefix in self._prefixes:
            if rest.startswith(prefix):
                start += len(rest) - len(rest[len(prefix) :].lstrip())
            elif prefix.startswith(rest) and not self._final:
                return False
        if start == len(self._held):
            return False
        if self._held[start] not in "{[":
            self._give_up(chunks)
            return True
        self._scanner = self._scanner or JsonScanner()
        end = self._scanner.end(self._held[start:])
        if end < 0:
            return False
        calls = read_calls(self._held[start : start + end], self._tools)
        if calls is None:
            self._give_up(chunks)
            return True
        chunks.append(Chunk(tool_calls=self._counter.number(calls)))
        self._held = self._held[start + end :]
        self._scanner, self._called = None, True
        return True

    def _give_up(self, chunks: list[Chunk]) -> None:
        """From here on everything is content."""
        text = self._held.lstrip() if self._called else self._held
        if text:
            chunks.append(Chunk(content=text))
        self._held, self._scanner, self._done = "", None, True

    def finish(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        self._final = True
        if self._held and (self._held.strip(SEPARATORS) or not self._called):
            self._give_up(chunks)
        return chunks
