"""One generation on its way through the engine, from waiting to finished.

Holds token ids and counters; knows nothing of text (that is its ``answer``) nor of how cells are kept.
"""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from server.types import Chunk, Final, FinishReason, Limits, Logprob

if TYPE_CHECKING:
    from server.worker.engine.constraint import Constraint, Deferred
    from server.worker.engine.sampling import Sampler

Tokens = NDArray[np.int32]


class Answer(Protocol):
    """The text side of a sequence: token ids in, chunks out."""

    thinking_tokens: int
    """How many of the tokens fed were thinking."""

    def due(self) -> int:
        """A token that must come next, whatever would be drawn; -1 as a rule."""

    def binding(self, token: int) -> list[int] | None:
        """What the constraint must accept if ``token`` comes next; None where no constraint applies."""

    def feed(self, token: int, logprob: Logprob | None) -> list[Chunk]:
        """The chunks that became certain."""

    def finish(self) -> Chunk:
        """What was held back."""

    @property
    def stop_sequence(self) -> str:
        """The stop string that ended the answer, or ""."""


class State(enum.IntEnum):
    WAITING = 0
    PREFILL = 1
    DECODE = 2
    DONE = 3


class Sequence:
    """``tokens`` = prompt + generated; the first ``computed`` of them are in the cells of ``slot``."""

    __slots__ = (
        "answer", "arrived", "cached", "computed", "constraint", "first_token_at", "id", "keep", "limits",
        "n_prompt", "output", "prompt", "repeats", "sampler", "shifted", "slot", "started", "state", "tokens",
        "top_logprobs", "truncated", "want_context", "window",
    )  # fmt: skip

    def __init__(
        self,
        id: int,  # noqa: A002 (the field's name on the channel)
        prompt: list[int],
        limits: Limits,
        sampler: Sampler,
        answer: Answer,
        *,
        window: int,
        constraint: Constraint | Deferred | None = None,
        top_logprobs: int = -1,
        want_context: bool = False,
        truncated: int = 0,
        keep: int = 0,
    ) -> None:
        self.id = id
        self.tokens = list(prompt)
        self.prompt: Tokens = np.asarray(prompt, np.int32)
        self.n_prompt = len(prompt)
        self.limits = limits
        self.sampler = sampler
        self.answer = answer
        self.window = window
        self.constraint = constraint
        self.top_logprobs = top_logprobs
        self.want_context = want_context
        self.truncated = truncated
        self.keep = keep
        self.state = State.WAITING
        self.slot = -1
        self.computed = 0
        self.cached = 0
        self.output = 0
        self.repeats = 0
        self.shifted = 0
        self.arrived = time.perf_counter_ns()
        self.started = 0
        self.first_token_at = 0

    @property
    def left(self) -> int:
        """Tokens known but not yet in the cells."""
        return len(self.tokens) - self.computed

    @property
    def bound(self) -> int:
        """The most tokens it may generate."""
        given = self.limits.num_predict
        return given if given > 0 else 10 * self.window

    def final(self, reason: FinishReason) -> Final:
        now = time.perf_counter_ns()
        first = self.first_token_at or now
        return Final(
            reason=reason,
            prompt_tokens=self.n_prompt,
            cached_tokens=self.cached,
            output_tokens=self.output,
            queue_ns=max(self.started - self.arrived, 0),
            prompt_ns=max(first - (self.started or now), 1),
            decode_ns=max(now - first, 1),
            truncated=self.truncated,
            shifted=self.shifted,
            stop_sequence=self.answer.stop_sequence,
            context=tuple(self.tokens) if self.want_context else (),
            thinking_tokens=self.answer.thinking_tokens,
        )

    def close(self) -> None:
        self.state = State.DONE
        self.sampler.close()


def common_prefix(a: Tokens, b: Tokens, limit: int | None = None) -> int:
    """How many leading tokens are equal, at most ``limit``."""
    size = min(a.size, b.size) if limit is None else min(a.size, b.size, limit)
    if size <= 0:
        return 0
    different: NDArray[Any] = a[:size] != b[:size]
    first = int(different.argmax())
    return first if different[first] else size
