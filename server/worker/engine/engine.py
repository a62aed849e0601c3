"""Continuous batching over one context: token ids in, token ids out.

``step`` computes one row for every decoding sequence and then prompt chunks within a budget of time, draws the
next tokens and hands the chunks of all sequences to ``emit`` at once. Runs on one thread; only ``abort_soon``
may be called from another. Knows nothing of text, channels or clocks but to measure its own pace.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from server.types import Chunk, FinishReason, Logprob, RunnerStats
from server.worker.engine.cells import Cells, Memory
from server.worker.engine.logprobs import logprob
from server.worker.engine.prefix_cache import Snapshots
from server.worker.engine.sampling import SamplingError
from server.worker.engine.scheduler import Pace, plan_prompts, prompt_budget
from server.worker.engine.sequence import Sequence, State

if TYPE_CHECKING:
    from server.worker.engine.constraint import Constraint, Deferred

MAX_REPEATS = 30
"""Identical tokens in a row after which a generation is taken for a loop (Ollama's bound)."""

ABORTED = 2
Row = NDArray[np.float32]


class BatchRows(Protocol):
    token: NDArray[np.int32]
    position: NDArray[np.int32]
    sequence: NDArray[np.int32]
    output: NDArray[np.int8]


class Forward(Memory, Protocol):
    """What the engine needs of a backend's context."""

    n_batch: int

    @property
    def batch(self) -> BatchRows: ...
    @property
    def can_slide(self) -> bool: ...
    def decode(self, rows: int) -> int: ...
    def logits(self, outputs: int) -> Row: ...
    def slide(self, sequence: int, start: int, delta: int) -> None: ...
    def request_abort(self) -> None: ...
    def clear_abort(self) -> None: ...


Emit = Callable[[list[tuple[int, Chunk]]], None]
Fail = Callable[[int, str], None]


class Engine:
    """``piece`` spells a token; ``eog`` are the tokens that end a generation."""

    def __init__(
        self,
        context: Forward,
        *,
        eog: frozenset[int],
        piece: Callable[[int], bytes],
        emit: Emit,
        fail: Fail,
        snapshot_budget: int,
        cuttable: bool = True,
    ) -> None:
        self.context = context
        self.cells = Cells(context, Snapshots(snapshot_budget), cuttable=cuttable)
        self.eog = eog
        self.piece = piece
        self.emit = emit
        self.fail = fail
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.pace = Pace()
        self._chunks: list[tuple[int, Chunk]] = []
        self._lone = -1
        self._steps = self._prompt_tokens = self._cached_tokens = self._output_tokens = 0
        self._rate = 0.0
        self._compute_ns = self._step_ns = 0

    # -- from outside -----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    @property
    def crowded(self) -> bool:
        """Somebody waits for a slot, or will have to."""
        return len(self.running) + len(self.waiting) > len(self.cells.slots)

    def submit(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def abort(self, id: int) -> None:  # noqa: A002 (the field's name on the channel)
        """Ends a sequence without a word; its cells stay as a prefix."""
        self.context.clear_abort()
        for sequence in (*self.waiting, *self.running):
            if sequence.id == id:
                self._remove(sequence)

    def abort_soon(self, id: int) -> None:  # noqa: A002
        """From any thread: if only this sequence is being computed, the decode under way is cut short."""
        if self._lone == id:
            self.context.request_abort()

    def move_to(self, context: Forward) -> None:
        """Between two steps: everything goes on in ``context``, which has more sequences of the same window."""
        self.cells.move_to(context)
        self.context = context

    def stats(self) -> RunnerStats:
        return RunnerStats(
            running=len(self.running),
            waiting=len(self.waiting),
            slots=len(self.cells.slots),
            kv_used=self.cells.tokens_held,
            kv_size=self.context.window * self.context.sequences,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            output_tokens=self._output_tokens,
            tokens_per_second=round(self._rate, 2) if self.running else 0.0,
            compute_ns=self._compute_ns,
            host_ns=self._step_ns - self._compute_ns,
        )

    # -- one step ---------------------------------------------------------------------------------------

    def step(self) -> None:
        begun = time.perf_counter_ns()
        produced = self._output_tokens
        self._admit()
        decoding = [s for s in self.running if s.state is State.DECODE]
        if decoding:
            self.cells.regroup()
            self._compute([(s, s.left) for s in sorted(decoding, key=_slot)])
            self._flush()
        self._prefill(sum(s.state is State.DECODE for s in self.running))
        self._flush()
        self._steps += 1
        spent = time.perf_counter_ns() - begun
        self._step_ns += spent
        rate = 1e9 * (self._output_tokens - produced) / max(spent, 1)
        self._rate = rate if not self._rate else 0.9 * self._rate + 0.1 * rate

    def _admit(self) -> None:
        self.cells.new_step()
        for sequence in list(self.waiting):
            if len(self.running) >= len(self.cells.slots):
                return
            if self.cells.place(sequence):
                self.waiting.remove(sequence)
                self.running.append(sequence)
                sequence.started = time.perf_counter_ns()
                self._prompt_tokens += sequence.n_prompt
                self._cached_tokens += sequence.cached

    def _prefill(self, streams: int) -> None:
        prompts = [s for s in self.running if s.state is State.PREFILL]
        if not prompts:
            return
        budget = prompt_budget(streams, self.pace, self.context.n_batch)
        plan = plan_prompts(prompts, budget, time.perf_counter_ns())
        tokens = sum(count for _, count in plan)
        self._lone = plan[0][0].id if len(plan) == 1 else -1
        begun = time.perf_counter()
        done = self._compute(plan)
        self._lone = -1
        if done:
            self.pace.observe(tokens, time.perf_counter() - begun)

    def _compute(self, plan: list[tuple[Sequence, int]]) -> bool:
        """Puts ``count`` tokens of each sequence through the model and draws where the prompt is complete."""
        rows, outputs = self._write_rows(plan)
        begun = time.perf_counter_ns()
        result = self.context.decode(rows)
        self._compute_ns += time.perf_counter_ns() - begun
        if result == ABORTED:
            self.context.clear_abort()
            return False
        if result != 0:
            for sequence, _ in plan:
                self._fail(sequence, f"llama.cpp could not compute this step (code {result})")
            return False
        for sequence, count in plan:
            sequence.computed += count
        if outputs:
            logits = self.context.logits(len(outputs))
            for row, sequence in zip(logits, outputs, strict=True):
                self._draw(sequence, row)
        return True

    def _write_rows(self, plan: list[tuple[Sequence, int]]) -> tuple[int, list[Sequence]]:
        """Fills the batch; (rows, the sequences that give logits, in order)."""
        batch, at = self.context.batch, 0
        outputs: list[Sequence] = []
        for sequence, count in plan:
            start = sequence.computed
            if count == 1:
                batch.token[at] = sequence.tokens[start]
                batch.position[at] = start
                batch.sequence[at] = sequence.slot
                end = at + 1
            else:
                end = at + count
                batch.token[at:end] = sequence.tokens[start : start + count]
                batch.position[at:end] = np.arange(start, start + count)
                batch.sequence[at:end] = sequence.slot
                batch.output[at:end] = 0
            complete = count == sequence.left
            batch.output[end - 1] = complete
            if complete:
                outputs.append(sequence)
            at = end
        return at, outputs

    # -- one token --------------------------------------------------------------------------------------

    def _draw(self, sequence: Sequence, row: Row) -> None:
        if not sequence.first_token_at:
            sequence.first_token_at = time.perf_counter_ns()
        sequence.state = State.DECODE
        sampler, top = sequence.sampler, sequence.top_logprobs
        raw = row.copy() if top >= 0 else row
        try:
            sampler.prepare(row)
            token, binding = self._choose(sequence, row)
            sampler.accept(token)
            sequence.output += 1
            self._output_tokens += 1
            if token in self.eog:
                self._finish(sequence, "stop")
                return
            likely = logprob(raw, token, top, self.piece) if top >= 0 else None
            self._append(sequence, token, likely)
            constraint = sequence.constraint if binding is not None else None
            if constraint is not None and binding is not None:
                constraint.accept(*binding)
                if top < 0:
                    self._fast_forward(sequence, constraint)
        except SamplingError as error:
            self._fail(sequence, str(error))
            return
        self._after(sequence, constraint is not None and constraint.done)

    def _choose(self, sequence: Sequence, row: Row) -> tuple[int, list[int] | None]:
        """A token, and what of it the constraint takes; the mask is computed only when a draw is refused.

        A token that begins a call as none may begin is refused alone, and another one is drawn.
        """
        answer, constraint = sequence.answer, sequence.constraint
        if (token := answer.due()) >= 0:
            return token, None
        while True:
            token = sequence.sampler.draw(row)
            binding = answer.binding(token) if constraint is not None else None
            if constraint is None or binding is None or constraint.allows(*binding):
                return token, binding
            if binding == [token]:
                constraint.mask(row)
                token = sequence.sampler.draw(row)
                return token, [token]
            row[token] = -np.inf

    def _append(self, sequence: Sequence, token: int, likely: Logprob | None = None) -> None:
        sequence.repeats = sequence.repeats + 1 if sequence.tokens[-1] == token else 0
        sequence.tokens.append(token)
        for chunk in sequence.answer.feed(token, likely):
            self._chunks.append((sequence.id, chunk))

    def _fast_forward(self, sequence: Sequence, constraint: Constraint | Deferred) -> None:
        """Tokens that the grammar leaves no choice about join the next batch without being drawn."""
        room = min(sequence.window - len(sequence.tokens), sequence.bound - sequence.output)
        for token in constraint.forced()[: max(room, 0)]:
            if token in self.eog or sequence.answer.stop_sequence:
                return
            constraint.accept(token)
            sequence.sampler.accept(token)
            sequence.output += 1
            self._output_tokens += 1
            self._append(sequence, token)

    def _after(self, sequence: Sequence, complete: bool) -> None:
        """Ends the sequence where it must end, or makes room for its next token."""
        if complete:  # the token that ends an answer counts (Ollama's rule), also where it need not be computed
            sequence.output += 1
            self._output_tokens += 1
        if sequence.answer.stop_sequence or complete:
            self._finish(sequence, "stop")
            return
        full = len(sequence.tokens) > sequence.window and not self._slide(sequence)
        if full or sequence.output >= sequence.bound or sequence.repeats >= MAX_REPEATS:
            self._finish(sequence, "length")

    def _slide(self, sequence: Sequence) -> bool:
        """Drops the older half of a full window, behind the tokens to keep; False if that cannot be."""
        if not sequence.limits.shift or sequence.limits.num_predict == -2 or not self.context.can_slide:
            return False
        keep = min(sequence.keep, sequence.computed // 2)
        drop = (sequence.computed - keep) // 2
        if drop < 1 or not self.context.cut(sequence.slot, keep, keep + drop):
            return False
        self.context.slide(sequence.slot, keep + drop, -drop)
        del sequence.tokens[keep : keep + drop]
        sequence.computed -= drop
        sequence.shifted += drop
        return True

    # -- ends -------------------------------------------------------------------------------------------

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        rest = sequence.answer.finish()
        final = sequence.final(reason)
        self._chunks.append(
            (sequence.id, Chunk(rest.content, rest.thinking, rest.tool_calls, rest.logprobs, final=final))
        )
        self._remove(sequence)

    def _fail(self, sequence: Sequence, message: str) -> None:
        self._remove(sequence, valid=False)
        self.fail(sequence.id, message)

    def _remove(self, sequence: Sequence, *, valid: bool = True) -> None:
        if sequence in self.running:
            self.running.remove(sequence)
            self.cells.release(sequence, valid=valid)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        sequence.close()

    def _flush(self) -> None:
        if self._chunks:
            chunks, self._chunks = self._chunks, []
            self.emit(chunks)


def _slot(sequence: Sequence) -> int:
    return sequence.slot
