"""The text side of one sequence: token ids in, chunks out.

Token → bytes → whole characters → stop strings → thinking, content and tool calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from server.types import Chunk, Logprob
from server.worker.chat.output import OutputParser
from server.worker.engine.detokenizer import Detokenizer
from server.worker.engine.stops import StopMatcher


class TextAnswer:
    """An ``engine.sequence.Answer``. Log-probabilities wait for the text of their token."""

    def __init__(self, piece: Callable[[int], bytes], stops: tuple[str, ...], parser: OutputParser) -> None:
        self._piece = piece
        self._detokenizer = Detokenizer(piece)
        self._stops = StopMatcher(stops)
        self._parser = parser
        self._logprobs: list[Logprob] = []
        self.stop_sequence = ""

    def free(self, token: int) -> bool:
        """Would ``token`` stand before or inside the answer's thinking, where no format applies?"""
        parser = self._parser
        return not parser.in_content and parser.may_think(self._piece(token).decode("utf-8", "replace"))

    def feed(self, token: int, logprob: Logprob | None) -> list[Chunk]:
        if logprob is not None:
            self._logprobs.append(logprob)
        text = self._detokenizer.feed(token)
        if text:
            text, self.stop_sequence = self._stops.feed(text)
        if not text:
            return []
        return self._with_logprobs(self._parser.feed(text))

    def finish(self) -> Chunk:
        """What was held back (a partial character or stop string, an open tag or call), as one chunk."""
        rest = "" if self.stop_sequence else self._detokenizer.flush()
        if rest:
            rest, self.stop_sequence = self._stops.feed(rest)
        if not self.stop_sequence:
            rest += self._stops.flush()
        chunks = [*self._parser.feed(rest), *self._parser.finish()]
        joined = Chunk(
            content="".join(c.content for c in chunks),
            thinking="".join(c.thinking for c in chunks),
            tool_calls=tuple(call for c in chunks for call in c.tool_calls),
            logprobs=tuple(self._logprobs),
        )
        self._logprobs.clear()
        return joined

    def _with_logprobs(self, chunks: list[Chunk]) -> list[Chunk]:
        if chunks and self._logprobs:
            chunks[0] = replace(chunks[0], logprobs=tuple(self._logprobs))
            self._logprobs.clear()
        return chunks
