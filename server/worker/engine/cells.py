"""Gives sequences their slots and brings computed prefixes into them.

The only place that decides what happens to cells: reuse where they are, copy through host memory, move so that
busy slots stay consecutive, keep what is evicted. Memory that cannot be cut at a position (recurrent models) is
reused only as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from server.worker.engine.prefix_cache import NOTHING, WORTH_KEEPING, Slot, Snapshot, Snapshots, regroup
from server.worker.engine.sequence import Sequence, State, Tokens, common_prefix


class Memory(Protocol):
    """What the cells need of a context."""

    sequences: int
    window: int

    def cut(self, sequence: int, start: int, end: int = -1) -> bool: ...
    def forget(self, sequence: int) -> None: ...
    def snapshot(self, sequence: int) -> bytearray: ...
    def restore(self, sequence: int, data: bytearray) -> bool: ...


@dataclass(slots=True)
class Source:
    """Where ``length`` leading tokens of a prompt are already computed."""

    length: int = 0
    slot: Slot | None = None
    kept: Snapshot | None = None


class Cells:
    def __init__(self, memory: Memory, snapshots: Snapshots, *, cuttable: bool = True) -> None:
        self.memory = memory
        self.snapshots = snapshots
        self.cuttable = cuttable
        self.slots = [Slot(i) for i in range(memory.sequences)]
        self._clock = 0
        self._fresh: dict[int, tuple[int, bytearray]] = {}

    # -- admission --------------------------------------------------------------------------------------

    def place(self, sequence: Sequence) -> bool:
        """Gives ``sequence`` a slot with the longest prefix at hand; False = none is free or wait for one.

        Waiting is for a running sequence that is just computing a longer prefix of the same prompt.
        """
        free = [slot for slot in self.slots if slot.idle]
        if not free:
            return False
        source = self._best_source(sequence.prompt)
        if self._coming(sequence.prompt) >= source.length + WORTH_KEEPING:
            return False
        slot = self._choose(free, source)
        self._fill(slot, source, sequence.prompt)
        sequence.slot = slot.index
        sequence.computed = sequence.cached = source.length
        sequence.state = State.PREFILL if sequence.left > 1 else State.DECODE
        slot.sequence = sequence
        slot.tokens = NOTHING
        return True

    def _best_source(self, prompt: Tokens) -> Source:
        """At least the prompt's last token is always computed: its logits are needed."""
        limit = prompt.size - 1
        best = Source()
        for slot in self._outwards():
            if slot.sequence is not None:
                length = common_prefix(slot.sequence.prompt, prompt, min(limit, slot.sequence.computed))
                if not self.cuttable or slot.sequence.shifted:
                    continue
            else:
                length = common_prefix(slot.tokens, prompt, limit)
                if not self.cuttable and length < slot.tokens.size:
                    continue
            if length > best.length or (length == best.length and length and slot.idle and not _idle(best.slot)):
                best = Source(length, slot=slot)
        length, kept = self.snapshots.longest(prompt, limit, whole=not self.cuttable)
        if length > best.length:
            best = Source(length, kept=kept)
        return best if best.length >= WORTH_KEEPING or _idle(best.slot) else Source()

    def _outwards(self) -> list[Slot]:
        """All slots, those beside the busy ones first: of equal prefixes the nearest is taken."""
        busy = [slot.index for slot in self.slots if not slot.idle]
        middle = sum(busy) / len(busy) if busy else 0.0
        return sorted(self.slots, key=lambda slot: abs(slot.index - middle))

    def _coming(self, prompt: Tokens) -> int:
        """The longest common prefix that a running sequence has yet to finish computing."""
        longest = 0
        if not self.cuttable:
            return 0
        for slot in self.slots:
            other = slot.sequence
            if other is not None and other.state is State.PREFILL and not other.shifted:
                length = common_prefix(other.prompt, prompt, prompt.size - 1)
                if length > other.computed:
                    longest = max(longest, length)
        return longest

    def _choose(self, free: list[Slot], source: Source) -> Slot:
        """The source's own slot if most of it is reused, else the least useful one beside the busy ones."""
        own = source.slot
        if own is not None and own.idle and (len(free) == 1 or 2 * source.length >= own.tokens.size):
            return own
        busy = [slot.index for slot in self.slots if not slot.idle]
        middle = sum(busy) / len(busy) if busy else 0.0
        others = [slot for slot in free if slot is not own] or free
        return min(others, key=lambda slot: (slot.tokens.size >= WORTH_KEEPING, slot.used, abs(slot.index - middle)))

    def _fill(self, slot: Slot, source: Source, prompt: Tokens) -> None:
        if slot is not source.slot:
            self._keep(slot, except_for=prompt)
            if source.length == 0:
                self.memory.forget(slot.index)
                return
            data = source.kept.data if source.kept else self._state(source)
            if not self.memory.restore(slot.index, data):
                raise RuntimeError("llama.cpp refused a state that it wrote itself")
            if source.kept:
                self.snapshots.touch(source.kept)
        self._cut(slot.index, source.length)

    def _state(self, source: Source) -> bytearray:
        """The state of a source's slot, read once however many sequences copy it in one step."""
        assert source.slot is not None
        index = source.slot.index
        computed = source.slot.sequence.computed if source.slot.sequence else source.slot.tokens.size
        known = self._fresh.get(index)
        if known is None or known[0] != computed:
            known = self._fresh[index] = (computed, self.memory.snapshot(index))
        return known[1]

    def _cut(self, index: int, length: int) -> None:
        if not self.memory.cut(index, length) and self.cuttable:
            raise RuntimeError("llama.cpp could not cut a sequence's memory")

    def _keep(self, slot: Slot, *, except_for: Tokens | None = None) -> None:
        """Saves what an idle slot holds before it is overwritten, unless it is short or known elsewhere."""
        tokens = slot.tokens
        if tokens.size < WORTH_KEEPING or self.snapshots.budget <= 0 or self._known_elsewhere(slot):
            return
        if except_for is not None and common_prefix(tokens, except_for) == tokens.size:
            return
        self.snapshots.add(tokens, self.memory.snapshot(slot.index))

    def _known_elsewhere(self, slot: Slot) -> bool:
        others = (s for s in self.slots if s is not slot and s.idle and s.tokens.size >= slot.tokens.size)
        held = any(common_prefix(s.tokens, slot.tokens) == slot.tokens.size for s in others)
        return held or self.snapshots.covers(slot.tokens)

    # -- release ----------------------------------------------------------------------------------------

    def release(self, sequence: Sequence, *, valid: bool = True) -> None:
        """The slot becomes idle; its cells stay as a prefix for others (``valid``: they can be trusted)."""
        slot = self.slots[sequence.slot]
        self._clock += 1
        slot.sequence, slot.used = None, self._clock
        if valid and not sequence.shifted and sequence.computed:
            slot.tokens = np.asarray(sequence.tokens[: sequence.computed], np.int32)
        else:
            slot.tokens = NOTHING
            self.memory.forget(slot.index)
        sequence.slot = -1

    # -- layout -----------------------------------------------------------------------------------------

    def new_step(self) -> None:
        self._fresh.clear()

    def regroup(self) -> None:
        """Makes busy slots consecutive, at most two moves a step."""
        busy = [slot.index for slot in self.slots if slot.sequence is not None]
        for start, end in regroup(busy, len(self.slots))[:2]:
            self._move(self.slots[start], self.slots[end])

    def _move(self, busy: Slot, idle: Slot) -> None:
        """Swaps the cells of a busy slot and an idle one (whose cells are dropped if they are worth little)."""
        sequence = busy.sequence
        assert sequence is not None
        state = self.memory.snapshot(busy.index)
        other = self.memory.snapshot(idle.index) if idle.tokens.size >= WORTH_KEEPING else None
        if not self.memory.restore(idle.index, state):
            raise RuntimeError("llama.cpp refused a state that it wrote itself")
        idle.sequence, busy.sequence = sequence, None
        sequence.slot = idle.index
        busy.tokens, idle.tokens = idle.tokens, NOTHING
        busy.used = idle.used
        if other is None or not self.memory.restore(busy.index, other):
            busy.tokens = NOTHING
            self.memory.forget(busy.index)
        self._fresh.clear()

    def move_to(self, memory: Memory) -> None:
        """Goes on in a larger memory of the same layout; every slot keeps its index and its cells."""
        for slot in self.slots:
            held = slot.tokens.size if slot.sequence is None else slot.sequence.computed
            if held == 0 or (slot.sequence is None and held < WORTH_KEEPING):
                slot.tokens = NOTHING
            elif not memory.restore(slot.index, self.memory.snapshot(slot.index)):
                raise RuntimeError("llama.cpp refused a state that it wrote itself")
        self.slots.extend(Slot(i) for i in range(len(self.slots), memory.sequences))
        self.memory = memory
        self._fresh.clear()

    # -- what is worth keeping over an unload -----------------------------------------------------------

    def harvest(self) -> list[tuple[Tokens, bytearray]]:
        """All kept prefixes, the most recently used first."""
        found: list[tuple[Tokens, bytearray]] = []
        for slot in sorted(self.slots, key=lambda s: -s.used):
            if slot.idle and slot.tokens.size >= WORTH_KEEPING and not self._known_elsewhere(slot):
                found.append((slot.tokens, self.memory.snapshot(slot.index)))
        found.extend((entry.tokens, entry.data) for entry in self.snapshots.most_recent())
        return found

    def adopt(self, prefixes: Iterable[tuple[Tokens, bytearray]]) -> None:
        for tokens, data in prefixes:
            self.snapshots.add(tokens, data)

    @property
    def tokens_held(self) -> int:
        return sum(slot.sequence.computed if slot.sequence else 0 for slot in self.slots)


def _idle(slot: Slot | None) -> bool:
    return slot is not None and slot.idle
