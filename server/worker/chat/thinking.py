"""Splits model text into thinking and answer by a pair of tags, while it arrives.

White space, the opening tag, white space, thinking, the closing tag, white space, content. Tags and the white
space behind them belong to neither. ``inside``: the prompt ended with an open tag. ``interrupt``: a marker (of
a tool call) that ends the thinking although the tag was not closed. Without an opening tag at the start all is
content, but for a closing tag that stands at the start or end of a line: some models think without having
opened. What is not closed at the end stays thinking.
"""

from __future__ import annotations

from typing import Literal

from server.worker.chat.formats.markers import held_back

Phase = Literal["undecided", "opened", "thinking", "closed", "content"]


class ThinkingParser:
    def __init__(self, opening: str, closing: str, *, inside: bool = False, interrupt: str = "") -> None:
        self._opening = opening
        self._closing = closing
        self._interrupt = interrupt
        self._ends = tuple(filter(None, (closing, interrupt)))
        self._held = ""
        self._line_start = True
        self._again = inside
        self._stray = True  # a closing tag may still come although none was opened
        self.phase: Phase = "opened" if inside else "undecided"

    @property
    def in_content(self) -> bool:
        return self.phase in ("closed", "content")

    def may_think(self, text: str) -> bool:
        """Could an answer that goes on with ``text`` still turn out to be, or stay, thinking?"""
        if self.phase != "undecided":
            return not self.in_content
        start = (self._held + text).lstrip()
        return self._opening.startswith(start) or start.startswith(self._opening)

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, content) that are certain by now."""
        self._held += text
        return self._advance(final=False)

    def finish(self) -> tuple[str, str]:
        return self._advance(final=True)

    def _advance(self, *, final: bool) -> tuple[str, str]:
        thinking: list[str] = []
        content: list[str] = []
        before: Phase | None = None
        while self.phase != before:
            before = self.phase
            if before == "undecided":
                self._decide(final)
            elif before == "thinking":
                self._think(thinking, final)
            elif before == "content":
                self._answer(content, final)
            else:
                self._skip_space(final)
        return "".join(thinking), "".join(content)

    def _pass(self, out: list[str], size: int) -> None:
        """The first ``size`` held characters are certain."""
        if size > 0:
            out.append(self._held[:size])
            self._line_start = self._held[size - 1] == "\n"
            self._held = self._held[size:]

    def _decide(self, final: bool) -> None:
        start = self._held.lstrip()
        if start.startswith(self._opening):
            self._held, self.phase = start[len(self._opening) :], "opened"
        elif start.startswith(self._closing):
            self._close(start[len(self._closing) :])
        elif final or not (self._opening.startswith(start) or self._closing.startswith(start)):
            self.phase = "content"

    def _skip_space(self, final: bool) -> None:
        """Behind a tag. Where the prompt opened the thinking, some models open it once more."""
        self._held = self._held.lstrip()
        if self.phase == "opened" and self._again:
            if self._held.startswith(self._opening):
                self._held, self._again = self._held[len(self._opening) :].lstrip(), False
            elif self._opening.startswith(self._held) and not final:
                return
        if self._held:
            self.phase = "thinking" if self.phase == "opened" else "content"

    def _think(self, out: list[str], final: bool) -> None:
        ends = [(self._held.find(end), end) for end in self._ends if end in self._held]
        if not ends:
            self._pass(out, len(self._held) - (0 if final else held_back(self._held, *self._ends)))
            return
        at, end = min(ends)
        self._pass(out, at)
        if end == self._closing:
            self._close(self._held[len(end) :])
        else:
            self.phase = "content"

    def _close(self, rest: str) -> None:
        self._held, self.phase, self._stray = rest, "closed", False

    def _answer(self, out: list[str], final: bool) -> None:
        """Content, less a closing tag that nobody opened."""
        while self._stray and (at := self._held.find(self._closing)) >= 0:
            self._pass(out, at)
            behind = self._held[len(self._closing) :]
            if not behind and not final:
                return  # the next character decides
            if self._line_start or behind[:1] in ("", "\n"):
                self._close(behind)
                return
            self._pass(out, len(self._closing))
        keep = held_back(self._held, self._closing) if self._stray and not final else 0
        self._pass(out, len(self._held) - keep)
