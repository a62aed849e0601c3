"""Embeddings: many texts packed as sequences into one batch, in a context of their own.

Models with a pooling of their own use it; chat models are pooled by mean. A text must fit one micro-batch,
because llama.cpp pools per micro-batch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from server.messages import Embed, Embedded, Failed
from server.types import Embeddings, LoadOptions
from server.worker.backends.llamacpp.context import Context
from server.worker.backends.llamacpp.model import Model

SEQUENCES = 64
USUAL = 2048
POOLING = {-1: "none", 0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}


@dataclass(slots=True)
class Job:
    """One ``Embed`` on its way: rows come in as batches are computed."""

    request: Embed
    texts: list[list[int]]
    rows: list[NDArray[np.float32]] = field(default_factory=list)


class Embedder:
    """``window``: the longest input in tokens; ``pooling`` -1 = the model's own."""

    def __init__(self, model: Model, options: LoadOptions, *, window: int, threads: int, pooling: int) -> None:
        self.model = model
        self.options = options
        self.window = window
        self.threads = threads
        self.pooling = pooling
        self.context: Context | None = None
        self.jobs: deque[Job] = deque()

    @property
    def busy(self) -> bool:
        return bool(self.jobs)

    def submit(self, request: Embed) -> Failed | None:
        """Tokenizes; a text that is too long is cut at the end or refused."""
        vocabulary = self.model.vocabulary
        limit = min(self.window, request.num_ctx or self.window)
        texts: list[list[int]] = []
        for text in request.inputs:
            tokens = vocabulary.tokenize(text, add_special=True, parse_special=True)
            if len(tokens) > limit:
                if not request.truncate:
                    return Failed(request.id, "invalid", "the input length exceeds the context length")
                tokens = [*tokens[: limit - 1], tokens[-1]] if vocabulary.add_eos else tokens[:limit]
            if not tokens:
                return Failed(request.id, "invalid", "an input has no tokens: it must not be empty for this model")
            texts.append(tokens)
        self.jobs.append(Job(request, texts))
        return None

    def abort(self, id: int) -> None:  # noqa: A002 (the field's name on the channel)
        self.jobs = deque(job for job in self.jobs if job.request.id != id)

    def step(self) -> list[Embedded | Failed]:
        """Computes one batch over all jobs; the answers that became complete."""
        batch: list[tuple[Job, list[int]]] = []
        room = self._capacity()
        for job in self.jobs:
            for tokens in job.texts[len(job.rows) :]:
                if len(tokens) > room or len(batch) == SEQUENCES:
                    return self._run(batch)
                batch.append((job, tokens))
                room -= len(tokens)
        return self._run(batch)

    def _capacity(self) -> int:
        """Opens (or widens) the context for the next text."""
        needed = max((len(t) for job in self.jobs for t in job.texts), default=1)
        size = min(self.window, USUAL) if needed <= USUAL else self.window
        if self.context is None or self.context.n_batch < needed:
            if self.context is not None:
                self.context.close()
            options = replace(self.options, num_batch=max(size, SEQUENCES), kv_cache_type="f16")
            self.context = Context(
                self.model,
                options,
                window=max(size, SEQUENCES),
                sequences=SEQUENCES,
                threads=self.threads,
                embeddings=True,
                pooling=self.pooling,
                unified=True,
            )
        return self.context.n_batch

    def _run(self, batch: list[tuple[Job, list[int]]]) -> list[Embedded | Failed]:
        context = self.context
        assert context is not None
        at = 0
        for sequence, (_, tokens) in enumerate(batch):
            end = at + len(tokens)
            context.batch.token[at:end] = tokens
            context.batch.position[at:end] = np.arange(len(tokens))
            context.batch.sequence[at:end] = sequence
            context.batch.output[at:end] = 1
            at = end
        context.clear()
        code = context.decode(at)
        if code:
            failed = {id(job): job for job, _ in batch}.values()
            return [self._fail(job, f"llama.cpp could not compute the embedding (code {code})") for job in failed]
        for sequence, (job, _) in enumerate(batch):
            job.rows.append(context.embedding(sequence, self.model.width))
        return [self._answer(job) for job in list(self.jobs) if len(job.rows) == len(job.texts)]

    def _fail(self, job: Job, message: str) -> Failed:
        self.jobs.remove(job)
        return Failed(job.request.id, "internal", message)

    def _answer(self, job: Job) -> Embedded | Failed:
        self.jobs.remove(job)
        rows = np.stack(job.rows) if job.rows else np.empty((0, self.model.width), np.float32)
        if not np.isfinite(rows).all():
            return Failed(job.request.id, "invalid", "embedding contains NaN or Inf values")
        request = job.request
        if 0 < request.dimensions < rows.shape[1]:
            rows = rows[:, : request.dimensions]
        if request.normalize:
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
        count, width = rows.shape
        data = np.ascontiguousarray(rows, "<f4").tobytes()
        return Embedded(request.id, Embeddings(data, count, width, sum(map(len, job.texts))))
