"""Cuts the source of a Go template into tokens, trimming white space where the delimiters say so.

An error is a token too (the last one): the parser reports what it meets first, as Go's does.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from enum import StrEnum
from typing import NamedTuple

SPACES = " \t\r\n"


class Kind(StrEnum):
    TEXT = "text"
    LEFT = "{{"
    RIGHT = "}}"
    SPACE = "space"
    ERROR = "error"
    EOF = "EOF"
    KEYWORD = "keyword"
    BOOL = "bool"
    NIL = "nil"
    NUMBER = "number"
    STRING = "string"
    RAW = "raw string"
    CHARACTER = "character"
    IDENTIFIER = "identifier"
    FIELD = "field"
    VARIABLE = "variable"
    DOT = "."
    PIPE = "|"
    ASSIGN = "="
    DECLARE = ":="
    OPEN = "("
    CLOSE = ")"
    COMMA = ","


KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"})
PUNCTUATION = {"|": Kind.PIPE, "=": Kind.ASSIGN, ":=": Kind.DECLARE, "(": Kind.OPEN, ")": Kind.CLOSE, ",": Kind.COMMA}


class Token(NamedTuple):
    kind: Kind
    text: str
    at: int
    line: int


TOKEN = re.compile(
    r"""
    (?P<right> [ \t\r\n]-\}\} | \}\} )
  | (?P<space> [ \t\r\n]+?(?=[ \t\r\n]-\}\}) | [ \t\r\n]+ )
  | (?P<string> "(?:\\[^\n]|[^"\\\n])*" )
  | (?P<raw> `[^`]*` )
  | (?P<character> '(?:\\[^\n]|[^'\\\n])+' )
  | (?P<number> [+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?) )
  | (?P<field> \.\w+ )
  | (?P<dot> \. )
  | (?P<variable> \$\w* )
  | (?P<word> \w+ )
  | (?P<punctuation> := | [|=(),] )
    """,  # noqa: E501
    re.VERBOSE,
)
# What may follow a name; anything else glued to it is a mistake.
ENDS_NAME = re.compile(r"[ \t\r\n.,|:()]|\}\}|\Z")
NAMES = frozenset({"field", "variable", "word", "number"})
SINGLE = {
    "space": Kind.SPACE,
    "string": Kind.STRING,
    "raw": Kind.RAW,
    "character": Kind.CHARACTER,
    "number": Kind.NUMBER,
    "field": Kind.FIELD,
    "dot": Kind.DOT,
    "variable": Kind.VARIABLE,
}


def lex(source: str) -> list[Token]:
    lexer = _Lexer(source)
    lexer.run()
    return lexer.tokens


class _Lexer:
    def __init__(self, source: str) -> None:
        self.tokens: list[Token] = []
        self._source = source
        self._newlines = [found.start() for found in re.finditer("\n", source)]

    def run(self) -> None:
        at: int | None = 0
        while at is not None:
            at = self._text(at)

    def _emit(self, kind: Kind, text: str, at: int) -> None:
        self.tokens.append(Token(kind, text, at, 1 + bisect_left(self._newlines, at)))

    def _error(self, text: str, at: int) -> None:
        self._emit(Kind.ERROR, text, at)

    def _text(self, at: int) -> int | None:
        """Text up to an action and that action; where to go on, or None at the end."""
        source = self._source
        left = source.find("{{", at)
        if left < 0:
            if at < len(source):
                self._emit(Kind.TEXT, source[at:], at)
            self._emit(Kind.EOF, "", len(source))
            return None
        trim = source[left + 2 : left + 3] == "-" and source[left + 3 : left + 4] in tuple(SPACES)
        text = source[at:left].rstrip(SPACES) if trim else source[at:left]
        if text:
            self._emit(Kind.TEXT, text, at)
        inside = left + (4 if trim else 2)
        if source.startswith("/*", inside):
            return self._comment(inside)
        self._emit(Kind.LEFT, "{{", left)
        return self._action(inside)

    def _comment(self, at: int) -> int | None:
        end = self._source.find("*/", at + 2)
        if end < 0:
            self._error("unclosed comment", at)
            return None
        found = TOKEN.match(self._source, end + 2)
        if not found or found.lastgroup != "right":
            self._error("comment ends before closing delimiter", at)
            return None
        return self._after(found)

    def _after(self, right: re.Match[str]) -> int:
        """Where the text after a right delimiter begins, white space skipped if that asks for it."""
        at = right.end()
        if len(right[0]) > 2:
            while self._source[at : at + 1] in tuple(SPACES):
                at += 1
        return at

    def _action(self, at: int) -> int | None:
        depth = 0
        while True:
            found = TOKEN.match(self._source, at)
            if found is None:
                self._error(self._problem(at), at)
                return None
            group, text = found.lastgroup, found[0]
            if group == "right":
                if depth:
                    self._error("unclosed left paren", at)
                    return None
                self._emit(Kind.RIGHT, text, at)
                return self._after(found)
            if text in ("(", ")"):
                depth += 1 if text == "(" else -1
                if depth < 0:
                    self._error("unexpected right paren", at)
                    return None
            if not self._glued(found, at):
                return None
            self._emit(_kind(group or "", text), text, at)
            at = found.end()

    def _glued(self, found: re.Match[str], at: int) -> bool:
        """False (and an error token) where a name or number runs into something."""
        if found.lastgroup in ("field", "variable", "word", "number") and not ENDS_NAME.match(
            self._source, found.end()
        ):
            if found.lastgroup == "number":
                self._error(f'bad number syntax: "{self._source[at : found.end() + 1]}"', at)
            else:
                self._error(f"bad character {_code_point(self._source[found.end()])}", at)
            return False
        return True

    def _problem(self, at: int) -> str:
        character = self._source[at : at + 1]
        match character:
            case "":
                return "unclosed action"
            case '"':
                return "unterminated quoted string"
            case "`":
                return "unterminated raw quoted string"
            case "'":
                return "unterminated character constant"
            case ":":
                return "expected :="
            case "+" | "-":
                return f'bad number syntax: "{self._source[at : at + 2]}"'
            case _:
                return f"unrecognized character in action: {_code_point(character)}"


def _kind(group: str, text: str) -> Kind:
    if group == "word":
        if text in KEYWORDS:
            return Kind.KEYWORD
        if text in ("true", "false"):
            return Kind.BOOL
        return Kind.NIL if text == "nil" else Kind.IDENTIFIER
    return PUNCTUATION[text] if group == "punctuation" else SINGLE[group]


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X} '{character}'"
