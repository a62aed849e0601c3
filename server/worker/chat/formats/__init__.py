"""How models write tool calls: one row of data per family (``rows``), and what is made of it.

A row yields the parser of what the model writes (``tool_parser``), the text that such a model would write
(``render``), the grammar that lets only valid calls through (``grammar``) and a prompt that teaches it (``fallback``).
Parsers give whole calls only, and give back as content whatever turns out not to be a call of a known tool.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from server.types import Chunk
from server.worker.chat.formats.bare import BareParser
from server.worker.chat.formats.calls import CallCounter
from server.worker.chat.formats.marked import MarkedParser
from server.worker.chat.formats.row import ToolFormat, closing_marker, for_marker
from server.worker.chat.formats.schemas import Schema

__all__ = ["ToolParser", "closing_marker", "tool_parser"]


class ToolParser(Protocol):
    @property
    def marker(self) -> str:
        """The text that opens a call, "" where a call is told by its first brace."""

    @property
    def in_call(self) -> bool:
        """The text last fed belongs to a call that is not finished."""

    def feed(self, text: str) -> list[Chunk]: ...

    def finish(self) -> list[Chunk]: ...


def tool_parser(
    form: ToolFormat | str, tools: Mapping[str, Schema] | Collection[str], counter: CallCounter | None = None
) -> ToolParser:
    """``form``: a row, or a marker of which nothing else is known. ``tools``: names, best with their schemas."""
    row = for_marker(form) if isinstance(form, str) else form
    known: Mapping[str, Schema] = tools if isinstance(tools, Mapping) else {name: {} for name in tools}
    counter = counter or CallCounter()
    if row.kind == "object" and row.call[0] == row.section[0] == "":
        return BareParser(known, counter, row.also)
    return MarkedParser(row, known, counter)
