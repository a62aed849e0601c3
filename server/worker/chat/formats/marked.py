"""Calls behind a marker: Hermes' ``<tool_call>{"name", "arguments"}</tool_call>`` and its many cousins.

Behind the marker comes a JSON value that spells calls, or a tool's name and then its arguments
(``[TOOL_CALLS]f[ARGS]{…}``). A closing marker may follow. Text around calls is content; white space and the
closing marker right behind a call are not. What turns out to be no call of a known tool is content, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from server.types import Chunk
from server.worker.chat.formats.calls import CallCounter, Calls, JsonScanner, read_arguments, read_calls
from server.worker.chat.formats.markers import held_back

NAME_REACH = 256  # characters between a marker and the first brace: more is prose that mentions the marker


class MarkedParser:
    def __init__(self, marker: str, closing: str, tools: Collection[str], counter: CallCounter) -> None:
        self.marker = marker
        self._closing = closing
        self._tools = tools
        self._counter = counter
        self._held = ""
        self._content: list[str] = []
        self._scanner = JsonScanner(marker, closing)
        self._state = self._text

    @property
    def in_call(self) -> bool:
        return self._state == self._call

    def feed(self, text: str) -> list[Chunk]:
        self._held += text
        return self._advance(final=False)

    def finish(self) -> list[Chunk]:
        return self._advance(final=True)

    def _advance(self, *, final: bool) -> list[Chunk]:
        chunks: list[Chunk] = []
        while self._held and self._state(chunks, final):
            pass
        self._flush(chunks)
        return chunks

    def _flush(self, chunks: list[Chunk]) -> None:
        content = "".join(self._content)
        if content:
            chunks.append(Chunk(content=content))
        self._content = []

    def _give(self, size: int) -> None:
        """The first ``size`` held characters are content."""
        self._content.append(self._held[:size])
        self._held = self._held[size:]

    # -- states: each looks at the held text and says whether to go on ----------------------------------

    def _text(self, chunks: list[Chunk], final: bool) -> bool:
        at = self._held.find(self.marker)
        if at < 0:
            self._give(len(self._held) - (0 if final else held_back(self._held, self.marker)))
            return False
        self._give(at)
        self._begin()
        return True

    def _begin(self) -> None:
        self._state, self._scanner = self._call, JsonScanner(self.marker, self._closing)

    def _call(self, chunks: list[Chunk], final: bool) -> bool:
        """The held text begins with the marker, or with a brace where one call follows another."""
        start = len(self.marker) if self._held.startswith(self.marker) else 0
        body = re.compile(r"\s*").match(self._held, start).end()  # type: ignore[union-attr]
        kind = _opening(self._held, body)
        if kind == "unknown" and not final:
            return False
        if kind == "json":
            return self._value(chunks, final, body, body)
        brace = self._held.find("{", body)
        head = self._held[body : brace if brace >= 0 else None]
        if self._not_a_name(head) or (brace < 0 and final):
            return self._bare_name(chunks, head, start)
        return brace >= 0 and self._value(chunks, final, body, brace)

    def _not_a_name(self, head: str) -> bool:
        return len(head) > NAME_REACH or self.marker in head or bool(self._closing and self._closing in head)

    def _bare_name(self, chunks: list[Chunk], head: str, start: int) -> bool:
        """No arguments behind the marker: a tool's name alone is a call, anything else is text."""
        for mark in filter(None, (self._closing, self.marker)):
            head = head.split(mark)[0]
        if head.strip() in self._tools:
            at = self._held.index(head, start)
            return self._found(chunks, [(head.strip(), {})], at + len(head))
        return self._no_call(start or 1)

    def _value(self, chunks: list[Chunk], final: bool, body: int, brace: int) -> bool:
        """A JSON value begins at ``brace``; a name stands before it if that is not ``body``."""
        size = self._scanner.end(self._held[brace:])
        if size < 0:
            return (self._scanner.broken or final) and self._no_call(brace)
        end = brace + size
        if brace == body:
            calls = read_calls(self._held[brace:end], self._tools)
        else:
            calls = self._named(self._held[body:brace], self._held[brace:end])
        return self._found(chunks, calls, end) if calls else self._no_call(end)

    def _named(self, head: str, value: str) -> Calls | None:
        """The longest known name in ``head`` with the arguments ``value``."""
        words = re.findall(r"[\w.:/-]+", head)
        names = [tool for tool in self._tools for word in words if word == tool or re.split(r"[.:]", word).count(tool)]
        arguments = read_arguments(value)
        return [(max(names, key=len), arguments)] if names and arguments is not None else None

    def _found(self, chunks: list[Chunk], calls: Calls, end: int) -> bool:
        self._flush(chunks)
        chunks.append(Chunk(tool_calls=self._counter.number(calls)))
        self._held = self._held[end:]
        self._state = self._after
        return True

    def _no_call(self, size: int) -> bool:
        self._give(size)
        self._state = self._text
        return True

    def _after(self, chunks: list[Chunk], final: bool) -> bool:
        """Behind a call: white space and the closing marker go, then another call or text comes."""
        rest = self._held.lstrip()
        while self._closing and rest.startswith(self._closing):
            rest = rest[len(self._closing) :].lstrip()
        self._held = rest
        if not rest:
            return False
        kind = _opening(rest, 0)
        partial = any(len(rest) < len(m) and m.startswith(rest) for m in (self.marker, self._closing))
        if not final and (partial or kind == "unknown"):
            return False
        if rest.startswith(self.marker) or kind == "json":
            self._begin()
        else:
            self._state = self._text
        return True


def _opening(text: str, at: int) -> str:
    """Does JSON (an object, or an array of objects) begin at ``at``? "json", "other", or "unknown" as yet."""
    if at >= len(text):
        return "unknown"
    if text[at] != "[":
        return "json" if text[at] == "{" else "other"
    inner = text[at + 1 :].lstrip()
    return "unknown" if not inner else "json" if inner[0] == "{" else "other"
