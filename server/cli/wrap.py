"""Answers as a terminal shows them: words wrapped as they stream in, thinking in grey. Pure: text in, text out."""

from __future__ import annotations

import unicodedata

GREY = "\x1b[38;5;245m"
BOLD = "\x1b[1m"
DEFAULT = "\x1b[0m"
MARGIN = 5
LONG_WORD = 10
# What a model writes must not steer the terminal: control characters other than tab and newline are left out there.
CONTROLS = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class WordWrap:
    """Breaks lines between words of a stream: a word that grows past the edge is taken back and begun anew."""

    def __init__(self, columns: int) -> None:
        """``columns`` 0 = leave the text alone."""
        self._columns = columns if columns >= LONG_WORD else 0
        self._column = 0
        self._word = ""

    def feed(self, text: str) -> str:
        if not self._columns:
            return text
        return "".join(self._character(character) for character in text)

    def _character(self, character: str) -> str:
        if character == "\n":
            self._column, self._word = 0, ""
            return character
        wide = width(character)
        shown = sum(map(width, self._word))
        text = character
        if self._column + wide > self._columns - MARGIN:
            if character == " ":
                self._column, self._word = 0, ""
                return "\n"
            if not self._word or shown > self._columns - LONG_WORD:
                self._column, self._word = 0, ""
                text = "\n" + character
            else:
                text = f"\x1b[{shown}D\x1b[K\n{self._word}{character}"
                self._column = shown
        self._column += wide
        self._word = "" if character == " " or wide > 1 else self._word + character
        return text


class AnswerText:
    """Joins the thinking and content pieces of one answer into what is printed."""

    def __init__(self, columns: int, *, plain: bool, hide_thinking: bool = False) -> None:
        """``plain``: the output is no terminal; the answer is passed on as it is, without colours."""
        self._wrap = WordWrap(columns)
        self._plain = plain
        self._hide = hide_thinking
        self._thinking = ""
        self._closed = False

    def feed(self, thinking: str, content: str) -> str:
        text = ""
        if not self._plain:
            thinking, content = thinking.translate(CONTROLS), content.translate(CONTROLS)
        if thinking and not self._hide:
            if not self._thinking:
                text += self._marked("Thinking...\n") + self._colour(GREY)
            self._thinking += thinking
            text += self._wrap.feed(thinking)
        if content:
            text += self.close() + self._wrap.feed(content)
        return text

    def close(self) -> str:
        """The end of the thinking, if there was some and it is still open."""
        if not self._thinking or self._closed:
            return ""
        self._closed = True
        newline = "" if self._thinking.endswith("\n") else self._wrap.feed("\n")
        return newline + self._marked("...done thinking.\n\n")

    def _marked(self, text: str) -> str:
        return f"{self._colour(GREY + BOLD)}{text}{self._colour(DEFAULT)}"

    def _colour(self, code: str) -> str:
        return "" if self._plain else code
