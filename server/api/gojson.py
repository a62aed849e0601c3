"""JSON as Go writes it and as Go complains about it.

``encode`` escapes like Go's encoder, and U+0085 as well (clients that split lines on it would cut an
NDJSON line in two). ``first_value`` walks a body that the fast parser refused, the way Go's scanner does, to
find where its first value ends or to say in Go's words what is wrong.
"""

from __future__ import annotations

import re
import time
from typing import Any

import orjson

_SPECIAL = re.compile(rb"[<>&]|\xe2\x80[\xa8\xa9]|\xc2\x85")
_ESCAPES = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
    b"\xc2\x85": b"\\u0085",
}
SPACES = re.compile(rb"[ \t\r\n]*+")
LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
PLAIN = re.compile(rb'(?:[^"\\\x00-\x1f]|\\(?:[bfnrt\\/"]|u[0-9a-fA-F]{4}))*+')
MAX_DEPTH = 10_000  # Go's own
MAX_VALUES = 20_000


def encode(value: Any) -> bytes:
    """Compact JSON with Go's escapes; key order is kept."""
    return escape(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))


def escape(data: bytes) -> bytes:
    """Go's HTML-safe escapes in already encoded JSON (these bytes occur only inside its strings)."""
    if _SPECIAL.search(data) is None:
        return data
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], data)


def timestamp(ns: int | None = None) -> str:
    """UTC, RFC 3339, up to nine digits of a second with trailing zeros cut off."""
    whole, fraction = divmod(time.time_ns() if ns is None else ns, 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{_second(whole)}{digits}Z"


_last_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def _second(whole: int) -> str:
    """The formatted second, kept from the last call: a stream asks for the same one many times."""
    global _last_second
    if _last_second[0] != whole:
        _last_second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    return _last_second[1]


class GoSyntaxError(ValueError):
    """A body that is not JSON; the text is Go's."""


class TooMany(ValueError):
    """More values than a walk in Python may look at: it would hold up everybody else."""


def first_value(body: bytes) -> bytes:
    """The bytes of the first JSON value; what follows is ignored, as Go's decoder does. GoSyntaxError, TooMany."""
    scanner = Scanner(body)
    start = scanner.skip_space()
    scanner.value("looking for beginning of value")
    return body[start : scanner.at]


class Scanner:
    """A walk over JSON bytes. ``at`` is the next byte to read; ``left`` values may still be looked at."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0
        self.left = MAX_VALUES

    def skip_space(self) -> int:
        self.at = SPACES.match(self.body, self.at).end()  # type: ignore[union-attr] # matches nothing, too
        return self.at

    def peek(self) -> int:
        if self.at >= len(self.body):
            raise GoSyntaxError("unexpected EOF")
        return self.body[self.at]

    def fail(self, context: str) -> GoSyntaxError:
        return GoSyntaxError(f"invalid character {_character(self.peek())} {context}")

    def value(self, context: str) -> None:
        """Iterative, so that depth costs no stack: ``open`` holds the closers still due."""
        closers: list[int] = []
        while True:
            self.skip_space()
            opened = self._begin(context, closers)
            if opened:
                context = "looking for beginning of value"
                continue
            if not self._close(closers):
                return
            context = "looking for beginning of value"

    def _begin(self, context: str, closers: list[int]) -> bool:
        """One value or the start of one; True when a nested value must follow."""
        self.left -= 1
        if self.left < 0:
            raise TooMany
        if len(closers) > MAX_DEPTH:
            raise GoSyntaxError("exceeded max depth")
        char = self.peek()
        if char == ord("{"):
            self.at += 1
            closers.append(ord("}"))
            self.skip_space()
            if self.peek() == ord("}"):
                return False
            self._key("looking for beginning of object key string")
            return True
        if char == ord("["):
            self.at += 1
            closers.append(ord("]"))
            self.skip_space()
            return self.peek() != ord("]")
        self._scalar(char, context)
        return False

    def _close(self, closers: list[int]) -> bool:
        """After a value: closes what ends here; True when another value follows, False at the very end."""
        while closers:
            self.skip_space()
            char = self.peek()
            if char == closers[-1]:
                self.at += 1
                closers.pop()
                continue
            inside = "array element" if closers[-1] == ord("]") else "object key:value pair"
            if char != ord(","):
                raise self.fail(f"after {inside}")
            self.at += 1
            self.skip_space()
            if closers[-1] == ord("}"):
                self._key("looking for beginning of object key string")
            return True
        return False

    def _key(self, context: str) -> None:
        if self.peek() != ord('"'):
            raise self.fail(context)
        self._string()
        self.skip_space()
        if self.peek() != ord(":"):
            raise self.fail("after object key")
        self.at += 1

    def _scalar(self, char: int, context: str) -> None:
        if char == ord('"'):
            self._string()
        elif char in LITERALS:
            self._literal(LITERALS[char])
        elif char == ord("-") or ord("0") <= char <= ord("9"):
            self._number()
        else:
            raise self.fail(context)

    def _literal(self, word: bytes) -> None:
        for index, expected in enumerate(word):
            if self.peek() != expected:
                raise self.fail(f"in literal {word.decode()} (expecting '{chr(word[index])}')")
            self.at += 1

    def _number(self) -> None:
        match = NUMBER.match(self.body, self.at)
        if match is None:
            self.at += 1
            raise self.fail("in numeric literal")
        self.at = match.end()
        rest = self.body[self.at : self.at + 1]
        if rest == b"." and not match[2] and not match[3]:
            self.at += 1
            raise self.fail("after decimal point in numeric literal")
        if rest in (b"e", b"E") and not match[3]:
            self.at += 1
            if self.peek() in b"+-":
                self.at += 1
            raise self.fail("in exponent of numeric literal")

    def _string(self) -> None:
        self.at = PLAIN.match(self.body, self.at + 1).end()  # type: ignore[union-attr] # matches nothing, too
        char = self.peek()
        if char < 0x20:
            raise self.fail("in string literal")
        self.at += 1
        if char == ord("\\"):
            self._escape()

    def _escape(self) -> None:
        char = self.peek()
        if char not in b'bfnrt\\/"u':
            raise self.fail("in string escape code")
        self.at += 1
        if char != ord("u"):
            return
        for _ in range(4):
            if self.peek() not in b"0123456789abcdefABCDEF":
                raise self.fail("in \\u hexadecimal character escape")
            self.at += 1


def _character(char: int) -> str:
    """A byte the way Go quotes it in scanner errors."""
    if char == ord("'"):
        return r"'\''"
    if char == ord('"'):
        return "'\"'"
    named = {0x5C: r"'\\'", 7: r"'\a'", 8: r"'\b'", 9: r"'\t'", 10: r"'\n'", 11: r"'\v'", 12: r"'\f'", 13: r"'\r'"}
    if char in named:
        return named[char]
    if char < 0x20 or char == 0x7F:
        return f"'\\x{char:02x}'"
    if 0x7F < char < 0xA0 or char == 0xAD:
        return f"'\\u{char:04x}'"
    return f"'{chr(char)}'"
