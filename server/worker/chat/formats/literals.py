"""Values as models spell them outside JSON: Python's literals, and keys without quotes (``{a:<|"|>x<|"|>}``).

``value``, ``keywords`` and ``fields`` read a whole text; ValueError where it is nothing of the kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

WORDS = {"true": True, "false": False, "none": None, "null": None}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0", "\n": ""}
DIGITS = {"x": 2, "u": 4, "U": 8}
WORD = re.compile(r"[^\s,\[\]{}():='\"]+")
SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
MAX_DEPTH = 64


def value(text: str) -> Any:
    return _Reader(text).whole(lambda reader: reader.value(0))


def keywords(text: str) -> dict[str, Any]:
    """``a='x', b=[1, True]``"""
    found: dict[str, Any] = _Reader(text).whole(lambda reader: reader.pairs("=", "", 0))
    return found


def fields(text: str, quote: str) -> dict[str, Any]:
    """``a:1,b:{c:<quote>x<quote>}``"""
    found: dict[str, Any] = _Reader(text, quote).whole(lambda reader: reader.pairs(":", "", 0))
    return found


class _Reader:
    def __init__(self, text: str, quote: str = "") -> None:
        self._text, self._at, self._quote = text, 0, quote

    def whole(self, read: Callable[[_Reader], Any]) -> Any:
        found = read(self)
        self._space()
        if self._at < len(self._text):
            raise ValueError("text behind the value")
        return found

    def _space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _take(self, mark: str) -> bool:
        self._space()
        here = bool(mark) and self._text.startswith(mark, self._at)
        self._at += len(mark) if here else 0
        return here

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self._take(self._quote):
            return self._raw()
        if self._take("{"):
            return self.pairs(":", "}", depth + 1)
        for opening, closing in ("[]", "()"):
            if self._take(opening):
                return self._items(closing, depth + 1)
        for quote in "\"'":
            if self._take(quote):
                return self._string(quote)
        return self._word()

    def _items(self, closing: str, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self._take(closing):
            if found and not self._take(","):
                raise ValueError("no comma")
            if self._take(closing):
                break
            found.append(self.value(depth))
        return found

    def pairs(self, colon: str, closing: str, depth: int) -> dict[str, Any]:
        """Up to ``closing``, or to the end of the text if that is empty."""
        found: dict[str, Any] = {}
        while not self._ended(closing):
            if found and not self._take(","):
                raise ValueError("no comma")
            if self._ended(closing):
                break
            key = self._key(colon)
            if key in found:
                raise ValueError("a key twice")
            found[key] = self.value(depth)
        return found

    def _ended(self, closing: str) -> bool:
        self._space()
        return self._take(closing) if closing else self._at == len(self._text)

    def _key(self, colon: str) -> str:
        for quote in "\"'":
            if not self._quote and self._take(quote):
                key = self._string(quote)
                break
        else:
            if self._take(self._quote):
                key = self._raw()
            else:
                self._space()
                end = self._text.find(colon, self._at)
                if end < 0:
                    raise ValueError("no value")
                key, self._at = self._text[self._at : end].strip(), end
        if not self._take(colon):
            raise ValueError("no value")
        return key

    def _raw(self) -> str:
        """Up to a quote behind which something can follow a text."""
        end = self._at
        while (end := self._text.find(self._quote, end)) >= 0:
            behind = self._text[end + len(self._quote) :].lstrip()
            if not behind or behind[0] in ",}]:":
                found, self._at = self._text[self._at : end], end + len(self._quote)
                return found
            end += 1
        raise ValueError("a text without an end")

    def _string(self, quote: str) -> str:
        out: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == quote:
                return SURROGATES.sub(_joined, "".join(out))
            out.append(self._escape() if character == "\\" else character)
        raise ValueError("a text without an end")

    def _escape(self) -> str:
        mark = self._text[self._at : self._at + 1]
        self._at += 1
        if size := DIGITS.get(mark):
            digits = self._text[self._at : self._at + size]
            self._at += size
            return chr(int(digits, 16)) if len(digits) == size and int(digits, 16) < 0x110000 else "\ufffd"
        return ESCAPES.get(mark, mark if mark in "\\'\"/" else f"\\{mark}")

    def _word(self) -> Any:
        self._space()
        found = WORD.match(self._text, self._at)
        if not found:
            raise ValueError("no value")
        self._at = found.end()
        word = found.group()
        if word.lower() in WORDS:
            return WORDS[word.lower()]
        number = json.loads(word.removeprefix("+"))
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError("no number")
        return number


def _joined(pair: re.Match[str]) -> str:
    high, low = map(ord, pair.group())
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


# -- the other way --------------------------------------------------------------------------------------


def python_text(given: Any) -> str:
    """A value as Python writes it."""
    if isinstance(given, str):
        return "'" + given.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"
    if isinstance(given, dict):
        return "{" + ", ".join(f"{python_text(k)}: {python_text(v)}" for k, v in given.items()) + "}"
    if isinstance(given, list):
        return "[" + ", ".join(map(python_text, given)) + "]"
    return str(given) if given is None or isinstance(given, bool) else json.dumps(given)


def bare_text(given: Any, quote: str) -> str:
    """A value with bare keys and texts between two ``quote``."""
    if isinstance(given, str):
        return f"{quote}{given}{quote}"
    if isinstance(given, dict):
        return "{" + ",".join(f"{key}:{bare_text(item, quote)}" for key, item in given.items()) + "}"
    if isinstance(given, list):
        return "[" + ",".join(bare_text(item, quote) for item in given) + "]"
    return json.dumps(given)
