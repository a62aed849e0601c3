"""From decoded model text to ``Chunk``s of content, thinking and tool calls, piece by piece.

Thinking is split off first, then tool calls are read from what remains. The parts do not depend on how the text
was cut. ``in_content`` is False while the model thinks: a format constraint starts only with content.
"""

from __future__ import annotations

from typing import Protocol

from server.types import Chunk
from server.worker.chat.formats import ToolParser
from server.worker.chat.thinking import ThinkingParser


class AnswerParser(Protocol):
    @property
    def in_content(self) -> bool:
        """All further text is content or tool calls. False while it is open whether the model will think."""

    @property
    def thinking(self) -> bool:
        """The model is thinking."""

    @property
    def in_call(self) -> bool:
        """The text last fed is part of an unfinished tool call."""

    def may_think(self, text: str) -> bool:
        """Would the next piece ``text`` leave the answer before or inside its thinking?"""

    def feed(self, text: str) -> list[Chunk]: ...

    def finish(self) -> list[Chunk]: ...


class OutputParser:
    """``feed`` every piece of text, then ``finish`` once for what was held back."""

    def __init__(self, thinking: ThinkingParser | None = None, tools: ToolParser | None = None) -> None:
        self._thinking = thinking
        self._tools = tools

    @property
    def in_content(self) -> bool:
        """All further text is content or tool calls. False while it is open whether the model will think."""
        return self._thinking is None or self._thinking.in_content

    @property
    def thinking(self) -> bool:
        return self._thinking is not None and self._thinking.phase in ("opened", "thinking")

    @property
    def in_call(self) -> bool:
        """The text last fed is part of an unfinished tool call."""
        return self._tools is not None and self._tools.in_call

    def may_think(self, text: str) -> bool:
        """Would the next piece ``text`` leave the answer before or inside its thinking?

        While ``in_content`` is False, a constrained answer may take a token that the constraint refuses if
        this says yes of it; at the first no the constraint begins, with that token.
        """
        return self._thinking is not None and self._thinking.may_think(text)

    def feed(self, text: str) -> list[Chunk]:
        if self._thinking is None:
            return self._content(text)
        thinking, content = self._thinking.feed(text)
        return self._parts(thinking, content)

    def finish(self) -> list[Chunk]:
        thinking, content = self._thinking.finish() if self._thinking is not None else ("", "")
        chunks = self._parts(thinking, content)
        if self._tools is None:
            return chunks
        return _joined(chunks + self._tools.finish())

    def _parts(self, thinking: str, content: str) -> list[Chunk]:
        chunks = [Chunk(thinking=thinking)] if thinking else []
        return chunks + self._content(content)

    def _content(self, text: str) -> list[Chunk]:
        if not text:
            return []
        return [Chunk(content=text)] if self._tools is None else self._tools.feed(text)


def _joined(chunks: list[Chunk]) -> list[Chunk]:
    """Neighbouring pieces of content as one."""
    joined: list[Chunk] = []
    for chunk in chunks:
        if joined and chunk.content and joined[-1].content:
            joined[-1] = Chunk(content=joined[-1].content + chunk.content)
        else:
            joined.append(chunk)
    return joined
