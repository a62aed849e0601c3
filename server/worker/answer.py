"""The text side of one sequence: token ids in, chunks out.

Token → bytes → whole characters → stop strings → thinking, content and tool calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from server.types import Chunk, Logprob
from server.worker.chat.formats.trigger import Trigger
from server.worker.chat.output import AnswerParser
from server.worker.engine.detokenizer import Detokenizer
from server.worker.engine.stops import StopMatcher


class TextAnswer:
    """An ``engine.sequence.Answer``. Log-probabilities wait for the text of their token."""

    def __init__(
        self,
        piece: Callable[[int], bytes],
        stops: tuple[str, ...],
        parser: AnswerParser,
        *,
        tokenize: Callable[[str], list[int]] | None = None,
        trigger: Trigger | None = None,
        think_budget: int = -1,
        think_end: str = "",
    ) -> None:
        """``trigger``: a constraint applies from the call on that it notices. ``think_end`` closes the thinking."""
        self._piece = piece
        self._tokenize = tokenize or (lambda text: [])
        self._trigger = trigger
        self._budget, self._think_end = think_budget, think_end
        self._due: list[int] | None = None
        self.thinking_tokens = 0
        self._detokenizer = Detokenizer(piece)
        self._stops = StopMatcher(stops)
        self._parser = parser
        self._logprobs: list[Logprob] = []
        self.stop_sequence = ""

    def due(self) -> int:
        """A token that must come next, whatever the model would say; -1 as a rule."""
        if self._budget < 0 or self.thinking_tokens < self._budget or not self._parser.thinking:
            return -1
        if self._due is None:
            self._due = self._tokenize(self._think_end)
        return self._due.pop(0) if self._due else -1

    def binding(self, token: int) -> list[int] | None:
        """What a constraint must accept if ``token`` comes next; None where no constraint applies.

        Before and inside thinking none does, with a ``trigger`` also not before a call; of the token that begins
        the call, what counts are the tokens from the call's beginning on.
        """
        parser, piece = self._parser, self._piece(token)
        if self._trigger is not None and not self._trigger.fired:
            begun = self._trigger.begun(piece)
            return None if begun is None else self._tokenize(begun.decode("utf-8", "ignore"))
        if not parser.in_content and parser.may_think(piece.decode("utf-8", "replace")):
            return None
        return [token]

    def feed(self, token: int, logprob: Logprob | None) -> list[Chunk]:
        self.thinking_tokens += self._parser.thinking
        if self._trigger is not None and not self._trigger.fired:
            self._trigger.feed(self._piece(token))
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
