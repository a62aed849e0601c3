"""Which row a template speaks: the one that reads what the template writes for a call, else by its markers."""

from __future__ import annotations

import re
from functools import lru_cache

from modelfiles.render import Kind
from modelfiles.tool_probe import CALLS, TOOLS, common, written_calls
from server.types import ToolCall
from server.worker.chat.formats import tool_parser
from server.worker.chat.formats.derive import derived
from server.worker.chat.formats.render import render
from server.worker.chat.formats.row import ToolFormat, for_marker
from server.worker.chat.formats.rows import BY_NAME, HERMES, ROWS
from server.worker.chat.formats.schemas import schemas_of

SPECIAL = re.compile(r"<[^<>\s]{1,40}>|\[e~\[|```")
HARMONY = BY_NAME["gpt-oss"]


@lru_cache(maxsize=64)
def row_of(source: str, kind: Kind, marker: str = "") -> ToolFormat:
    """``marker``: the text that a Go template has before its calls. Runs the template."""
    if all(mark in source for mark in HARMONY.marks):
        return HARMONY
    texts = [(text, count) for count in (2, 1) if (text := written_calls(source, kind, count))]
    marked = next((row for row in ROWS if row.marks and all(mark in source for mark in row.marks)), None)
    opens = marked is not None and bool(marked.openings)
    for text, count in texts:
        if (row := written_in(text, count)) is not None:
            return row
    if marked is not None and opens and any(marked.marker in text for text, _ in texts):
        return marked
    for text, count in texts:
        if (row := made_for(text, count)) is not None:
            return row
    if marked is not None and opens:
        return marked
    return for_marker(marker) if marker else marked or HERMES


def written_in(text: str, count: int = 2) -> ToolFormat | None:
    """The row whose family writes ``CALLS`` as ``text``."""
    readers = [row for row in ROWS if row.kind != "harmony" and reads(row, text, count)]
    return max(readers, key=lambda row: _likeness(row, text, count), default=None)


def made_for(text: str, count: int = 2) -> ToolFormat | None:
    """A row made for a text that none reads."""
    made = derived(text, count)
    return made if made is not None and reads(made, text, count) else None


def reads(row: ToolFormat, text: str, count: int = 2) -> bool:
    """``row`` reads ``text`` as the calls of the probe, and leaves nothing but special tokens over."""
    parser = tool_parser(row, schemas_of(TOOLS))
    chunks = [*parser.feed(text), *parser.finish()]
    calls = [(call.name, call.arguments) for chunk in chunks for call in chunk.tool_calls]
    rest = SPECIAL.sub("", "".join(chunk.content for chunk in chunks))
    return calls == list(CALLS[:count]) and not rest.strip()


def _calls(count: int) -> list[ToolCall]:
    return [ToolCall(name, arguments, f"abcdef12{n}", n) for n, (name, arguments) in enumerate(CALLS[:count])]


def _likeness(row: ToolFormat, text: str, count: int) -> tuple[bool, int]:
    """Does the row write this very text? Else how far the two begin alike."""
    own, text = _squeezed(render(row, _calls(count))), _squeezed(text)
    return own in text, common(own, text[max(text.find(_squeezed(row.marker)), 0) :])


def _squeezed(text: str) -> str:
    return "".join(text.split())
