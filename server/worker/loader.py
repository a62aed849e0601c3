"""Turns a ``Load`` into a working room: model, context, engine, prompt builder, embedder.

The only file of the worker that knows all of its parts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from server.messages import Load
from server.types import Generation, Loaded, MemoryUse
from server.worker import prefix_store
from server.worker.answer import TextAnswer
from server.worker.backends.llamacpp.context import Context
from server.worker.backends.llamacpp.model import LoadError, Model
from server.worker.chat.formats.trigger import Trigger
from server.worker.chat.prompt import Prepared, PromptBuilder
from server.worker.embedder import POOLING, Embedder
from server.worker.engine.constraint import Constraint, Deferred, Grammars
from server.worker.engine.engine import Emit, Engine, Fail
from server.worker.engine.sampling import Sampler
from server.worker.engine.sequence import Sequence
from server.worker.growth import Plan, full_use, grow, open_first

SNAPSHOT_BUDGET = 128 * 2**20
DISK_BUDGET = 128 * 2**20
MEAN = 1
DEFAULT_CTX = 4096
DEFAULT_PARALLEL = 16


@dataclass
class Room:
    """A loaded model. ``engine`` is None for models that only embed and for vocabulary-only loads."""

    load: Load
    model: Model
    prompts: PromptBuilder
    window: int
    context: Context | None
    engine: Engine | None
    embedder: Embedder | None
    layout: str
    plan: Plan | None = None
    warn: Callable[[str], None] = logging.getLogger(__name__).warning

    @cached_property
    def grammars(self) -> Grammars:
        vocabulary = self.model.vocabulary
        return Grammars(vocabulary.pointer, vocabulary.n_vocab, sorted(vocabulary.eog), vocabulary.piece)

    def prepare(self, generation: Generation) -> Prepared:
        asked = generation.limits.num_ctx
        return self.prompts.build(generation, min(asked, self.window) if asked > 0 else self.window)

    def sequence(self, id: int, generation: Generation, prepared: Prepared) -> Sequence:  # noqa: A002
        """A sequence ready for the engine. Raises InvalidRequest or ConstraintError."""
        vocabulary, limits = self.model.vocabulary, generation.limits
        window = min(limits.num_ctx, self.window) if limits.num_ctx > 0 else self.window
        constraint, trigger = self._constraint(generation, prepared)
        answer = TextAnswer(
            vocabulary.piece,
            limits.stop,
            prepared.parser,
            tokenize=self._tokenize,
            trigger=trigger,
            think_budget=limits.think_budget,
            think_end=prepared.think_end,
        )
        return Sequence(
            id,
            prepared.tokens,
            limits,
            Sampler(generation.sampling, vocabulary.n_vocab, vocabulary.eog, prepared.tokens, vocabulary.piece),
            answer,
            window=window,
            constraint=constraint,
            top_logprobs=generation.top_logprobs,
            want_context=generation.want_context,
            truncated=prepared.truncated,
            keep=len(prepared.tokens) if limits.num_keep < 0 else limits.num_keep + int(vocabulary.add_bos),
        )

    def _tokenize(self, text: str) -> list[int]:
        return self.model.vocabulary.tokenize(text, add_special=False, parse_special=True)

    def _constraint(
        self, generation: Generation, prepared: Prepared
    ) -> tuple[Constraint | Deferred | None, Trigger | None]:
        """What the answer must follow, and what it waits for; ConstraintError if that cannot be."""
        plan = prepared.calls
        if plan is None:
            return self.grammars.compile(generation.format) if generation.format is not None else None, None

        def compiled() -> Constraint:
            grammar = plan.grammar(lambda text: self.grammars.spell(text, self._tokenize))
            constraint = self.grammars.compile_lark(grammar)
            if plan.begun:
                constraint.accept(*self._tokenize(plan.begun))
            return constraint

        if plan.lazy:
            return Deferred(compiled, self.warn), plan.trigger()
        return compiled(), None

    def grow(self, done: Callable[[Context | None], None]) -> threading.Thread | None:
        """Begins to make the full context, where the first one was smaller."""
        if self.context is None or self.plan is None or self.context.sequences >= self.plan.full:
            return None
        return grow(self.model, self.plan, done)

    def adopt(self, context: Context) -> None:
        """The engine goes on in ``context``; nothing of what it computed is lost."""
        if self.engine is None or self.context is None:
            raise RuntimeError("only a generating model has a context to change")
        self.engine.move_to(context)
        self.context.close()
        self.context = context

    def save_prefixes(self) -> None:
        if self.engine and self.load.cache_dir and self.load.cache_key:
            folder = Path(self.load.cache_dir)
            prefix_store.save(folder, self.load.cache_key, self.layout, self.engine.cells.harvest(), DISK_BUDGET)

    def close(self) -> None:
        if self.embedder is not None and self.embedder.context is not None:
            self.embedder.context.close()
        if self.context is not None:
            self.context.close()
        self.model.close()


def load_room(load: Load, emit: Emit, fail: Fail, on_progress: Callable[[float], None]) -> tuple[Room, Loaded]:
    """Raises LoadError."""
    begun = time.perf_counter_ns()
    model = Model(load.weights, load.options, parts=load.parts, vocab_only=load.vocab_only, on_progress=on_progress)
    for path in load.adapters:
        model.add_adapter(path)
    prompts = PromptBuilder(model.vocabulary, jinja_template=model.chat_template)
    options = load.options
    trained = model.trained_ctx or DEFAULT_CTX
    window = min(options.num_ctx or DEFAULT_CTX, trained)
    if load.vocab_only:
        room = Room(load, model, prompts, window, None, None, None, "")
        return room, _loaded(room, MemoryUse(), "none", begun)
    threads = options.num_thread or _threads()
    pooling = _pooling(model)
    if pooling == "rank":
        raise LoadError("this is a reranking model: it gives scores, neither text nor embeddings")
    embedder = Embedder(model, options, window=window, threads=threads, pooling=-1 if pooling != "none" else MEAN)
    context = engine = plan = None
    if pooling == "none":
        plan = Plan(options, window, options.num_parallel or DEFAULT_PARALLEL, threads)
        context = open_first(model, plan)
        engine = _engine(model, context, emit, fail)
    room = Room(load, model, prompts, window, context, engine, embedder, _layout(load, model, context), plan)
    if engine is not None and load.cache_dir and load.cache_key:
        engine.cells.adopt(prefix_store.load(Path(load.cache_dir), load.cache_key, room.layout))
    memory = full_use(context, plan) if context is not None and plan is not None else MemoryUse(weights=model.size)
    return room, _loaded(room, memory, pooling, begun)


def _engine(model: Model, context: Context, emit: Emit, fail: Fail) -> Engine:
    vocabulary = model.vocabulary
    return Engine(
        context,
        eog=vocabulary.eog,
        piece=vocabulary.piece,
        emit=emit,
        fail=fail,
        snapshot_budget=SNAPSHOT_BUDGET,
        cuttable=not model.recurrent,
    )


def _layout(load: Load, model: Model, context: Context | None) -> str:
    """What must be equal for a saved state to be readable."""
    options = load.options
    window = context.window if context else 0
    return f"{model.size}/{options.kv_cache_type}/{options.flash_attention}/{window}/{','.join(load.adapters)}"


def _pooling(model: Model) -> str:
    architecture = model.metadata("general.architecture") or ""
    kind = model.metadata(f"{architecture}.pooling_type")
    return POOLING.get(int(kind), "none") if kind is not None and kind.isdigit() else "none"


def _loaded(room: Room, memory: MemoryUse, pooling: str, begun: int) -> Loaded:
    return Loaded(
        num_ctx=room.window,
        num_parallel=room.plan.full if room.plan else 1,
        vocabulary=room.model.vocabulary.n_vocab,
        memory=memory,
        trained_ctx=room.model.trained_ctx,
        embedding_width=room.model.width,
        pooling=pooling,
        load_ns=time.perf_counter_ns() - begun,
        device="gpu" if memory.gpu else "cpu",
        sandbox="basic",
    )


def _threads() -> int:
    import os

    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
