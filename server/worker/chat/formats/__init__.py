"""How models write tool calls: one small parser per family of spellings.

``ToolParser`` is what ``output`` needs of them. A parser gives whole calls only, and gives back as content
whatever turns out not to be a call of a known tool: no text is ever swallowed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from server.types import Chunk
from server.worker.chat.formats.bare import BareParser
from server.worker.chat.formats.calls import CallCounter
from server.worker.chat.formats.marked import MarkedParser

HERMES = "<tool_call>"


class ToolParser(Protocol):
    @property
    def marker(self) -> str:
        """The text that opens a call, "" where a call is told by its first brace."""

    @property
    def in_call(self) -> bool:
        """The text last fed belongs to a call that is not finished."""

    def feed(self, text: str) -> list[Chunk]: ...

    def finish(self) -> list[Chunk]: ...


def tool_parser(marker: str, tools: Collection[str], counter: CallCounter | None = None) -> ToolParser:
    """The parser for calls behind ``marker``; "", ``{`` and ``[`` mean that the answer itself is the call."""
    counter = counter or CallCounter()
    marker = marker.strip()
    if marker in ("", "{", "["):
        return BareParser(tools, counter)
    return MarkedParser(marker, closing_marker(marker), tools, counter)


def closing_marker(marker: str) -> str:
    """What closes what ``marker`` opens: ``<x>`` → ``</x>``, ``[X]`` → ``[/X]``, ``<|START_X|>`` → ``<|END_X|>``."""
    if marker.startswith("<|START_"):
        return "<|END_" + marker.removeprefix("<|START_")
    if marker.startswith("<|"):
        return ""
    if marker[0] in "<[" and marker[-1] in ">]":
        return f"{marker[0]}/{marker[1:]}"
    return ""
