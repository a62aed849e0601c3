"""``ToolFormat``: one row of data says how a family of models writes the calls of tools.

An answer with calls is ``section[0] CALL (between CALL)* section[1]``, a CALL is ``call[0] BODY call[1]``, and ``kind``
says what a BODY is:

==========  =======================================================================================================
``object``  a JSON object with ``fields``: pairs of a key and what stands behind it (``name``, ``arguments``, ``id``;
            ``string``: the arguments as JSON in a string)
``array``   one JSON array of such objects in place of all calls
``keyed``   one JSON array of ``{name: arguments}``
``json``    ``head``, the arguments as a JSON object, ``tail``
``tags``    ``head``, then ``pair[0] VALUE pair[1]`` for each argument, ``tail``; texts as they are, else JSON
``python``  ``head``, keyword arguments in Python's spelling, ``tail``
``bare``    ``head``, ``key:value,…`` with keys without quotes and texts between two ``quote``, ``tail``
==========  =======================================================================================================

``head`` may hold ``{name}``, ``{id}``, ``{index}``; ``pair[0]`` ``{key}``, ``{string}`` (true or false), ``{type}``.
New lines in a row may be missing or be other white space in what a model writes. ``also``: texts that open a call,
too. ``plain``: what stands around an answer without calls and is no part of it. ``marks``: texts by which a template
that shows no call is known to be of this family. ``parallel`` False: the family writes one call per answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["object", "array", "keyed", "json", "tags", "python", "bare", "harmony"]
Pair = tuple[str, str]
OBJECT = (("name", "name"), ("arguments", "arguments"))
IN_JSON = ("object", "array", "keyed")
JSON_SHAPED = (*IN_JSON, "json")
HERMES_MARKER = "<tool_call>"


@dataclass(frozen=True, slots=True)
class ToolFormat:
    name: str
    kind: Kind
    section: Pair = ("", "")
    call: Pair = ("", "")
    between: str = ""
    fields: tuple[Pair, ...] = OBJECT
    head: str = ""
    tail: str = ""
    pair: Pair = ("", "")
    quote: str = ""
    also: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    parallel: bool = True

    @property
    def openings(self) -> tuple[str, ...]:
        """Every text that may open the first call; none where the answer itself is the call."""
        own = [cores(text)[0] for text in (self.section[0], self.call[0]) if cores(text)]
        return tuple(dict.fromkeys((*own, *self.also)))

    @property
    def marker(self) -> str:
        """The text that opens the first call, "" where the answer itself is the call."""
        return self.openings[0] if self.openings else ""

    @property
    def closings(self) -> tuple[str, ...]:
        """Texts that may follow a call and belong to it."""
        tail = cores(self.tail) if self.kind in ("json", "tags") else []
        texts = (*tail, *cores(self.call[1]), *cores(self.section[1]), *cores(self.section[1].removeprefix("]")))
        return tuple(dict.fromkeys(texts))


def cores(literal: str) -> list[str]:
    """The parts of a literal between its new lines, which are optional in what a model writes."""
    return [part for part in re.split(r"\s*\n\s*", literal.strip()) if part]


def parts(pattern: str) -> list[str]:
    """``a{name}b`` → ``["a", "{name}", "b"]``."""
    return [part for part in re.split(r"(\{[a-z]+\})", pattern) if part]


def fill(pattern: str, **given: object) -> str:
    for key, value in given.items():
        pattern = pattern.replace(f"{{{key}}}", str(value))
    return pattern


def for_marker(marker: str) -> ToolFormat:
    """The row for a marker of which nothing else is known; "", ``{`` and ``[``: the answer itself is the call."""
    marker = marker.strip()
    if marker in ("", "{", "["):
        return ToolFormat("answer", "object")
    return ToolFormat("marker", "object", call=(marker, closing_marker(marker)))


def closing_marker(marker: str) -> str:
    """What closes what ``marker`` opens: ``<x>`` → ``</x>``, ``[X]`` → ``[/X]``, ``<|START_X|>`` → ``<|END_X|>``."""
    if marker.startswith("<|START_"):
        return "<|END_" + marker.removeprefix("<|START_")
    if marker.startswith("<|"):
        return ""
    if marker[0] in "<[" and marker[-1] in ">]":
        return f"{marker[0]}/{marker[1:]}"
    return ""
