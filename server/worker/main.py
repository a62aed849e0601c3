"""A model's own process: records come in, the engine runs, one frame per step goes out.

Two threads: one reads the channel (and can cut a decode short), the main one owns libllama. When the channel
closes, the process ends: no worker outlives its server.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
import traceback
from dataclasses import dataclass
from typing import Any

from server.errors import RunnerError, ServerError, Unsupported
from server.messages import (
    Abort,
    Detokenize,
    Embed,
    Failed,
    Generate,
    Load,
    LoadFailed,
    Loading,
    Ping,
    Pong,
    Ready,
    Shutdown,
    Step,
    Text,
    Tokenize,
    Tokens,
    ToServer,
    Warn,
    decode,
    encode,
)
from server.types import Chunk, Final, RunnerStats

TOTAL = struct.Struct("<I")

IDLE = 0.2
"""Seconds without work after which the full context is made: making it takes a core from the first answers."""


class Wire:
    """The worker's end of the channel. Blocking; writes from the main thread only."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._file = self._socket.makefile("rb", buffering=1 << 16)

    def send(self, record: ToServer) -> None:
        self._socket.sendall(encode(record))

    def receive(self) -> Any | None:
        """The next record, None at the end of the channel."""
        head = self._file.read(TOTAL.size)
        if len(head) < TOTAL.size:
            return None
        (total,) = TOTAL.unpack(head)
        frame = self._file.read(total)
        return decode(frame) if len(frame) == total else None


@dataclass(frozen=True, slots=True)
class Grown:
    """From the growth thread to the main one: the full context, or None if there is no memory for it."""

    context: Any


class Worker:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.room: Any = None
        self._growth: threading.Thread | None = None
        self._may_grow = False
        self._shutdown: Shutdown | None = None

    # -- the reading thread -----------------------------------------------------------------------------

    def read(self) -> None:
        while (record := self._receive()) is not None:
            self.inbox.put(record)
            if isinstance(record, Abort) and self.room is not None and self.room.engine is not None:
                self.room.engine.abort_soon(record.id)
        os._exit(0)

    def _receive(self) -> Any | None:
        try:
            return self.wire.receive()
        except (OSError, ValueError):
            return None

    # -- the main thread --------------------------------------------------------------------------------

    def run(self) -> None:
        """Serves until told to shut down."""
        threading.Thread(target=self.read, name="channel", daemon=True).start()
        while self._shutdown is None:
            self._drain(wait=not self._busy)
            if self.room is not None and self._shutdown is None:
                self._work()
        if self.room is not None:
            if self._growth is not None:
                self._growth.join()
            if self._shutdown.save:
                self._save()
            self.room.close()

    def _save(self) -> None:
        """Prefixes only save time: a full disk takes them, and nothing else."""
        try:
            self.room.save_prefixes()
        except OSError as error:
            self.wire.send(Warn(f"prefixes are not kept over this unload: {(error.strerror or str(error)).lower()}"))

    @property
    def _busy(self) -> bool:
        room = self.room
        return room is not None and bool((room.engine and room.engine.busy) or (room.embedder and room.embedder.busy))

    def _drain(self, *, wait: bool) -> None:
        """Handles every record that has come; waits for one where there is nothing to compute."""
        try:
            self._handle(self._wait() if wait else self.inbox.get(block=False))
            while True:
                self._handle(self.inbox.get(block=False))
        except queue.Empty:
            pass

    def _wait(self) -> Any:
        if self._may_grow:
            try:
                return self.inbox.get(timeout=IDLE)
            except queue.Empty:
                self._grow()
        return self.inbox.get()

    def _grow(self) -> None:
        self._may_grow = False
        self._growth = self.room.grow(lambda context: self.inbox.put(Grown(context)))

    def _work(self) -> None:
        engine = self.room.engine
        if engine is not None and engine.busy:
            if self._may_grow and engine.crowded:
                self._grow()
            engine.step()
        if self.room.embedder is not None and self.room.embedder.busy:
            for answer in self.room.embedder.step():
                self.wire.send(answer)

    def _handle(self, record: Any) -> None:
        match record:
            case Load():
                self._load(record)
            case Shutdown():
                self._shutdown = record
            case Ping(id):
                engine = self.room.engine if self.room else None
                self.wire.send(Pong(id, engine.stats() if engine else RunnerStats()))
            case Abort(id):
                self._abort(id)
            case Grown():
                self._adopt(record)
            case _:
                self._answer(record)

    def _abort(self, id: int) -> None:  # noqa: A002 (the field's name on the channel)
        if self.room is not None and self.room.engine is not None:
            self.room.engine.abort(id)
        if self.room is not None and self.room.embedder is not None:
            self.room.embedder.abort(id)

    def _answer(self, record: Any) -> None:
        """One request's failure is that request's alone."""
        try:
            self._serve(record)
        except Unsupported as error:
            self.wire.send(Failed(record.id, "unsupported", str(error)))
        except RunnerError as error:
            self.wire.send(Failed(record.id, "internal", str(error)))
        except (ServerError, ValueError) as error:
            self.wire.send(Failed(record.id, "invalid", str(error)))
        except Exception as error:
            traceback.print_exc()
            self.wire.send(Failed(record.id, "internal", f"the worker failed: {type(error).__name__}"))

    def _serve(self, record: Any) -> None:
        match record:
            case Generate():
                self._generate(record)
            case Embed():
                if self.room.embedder is None:
                    raise ValueError("only the vocabulary of this model is loaded")
                if failed := self.room.embedder.submit(record):
                    self.wire.send(failed)
            case Tokenize(id, text, add_special, parse_special):
                vocabulary = self.room.model.vocabulary
                tokens = vocabulary.tokenize(text, add_special=add_special, parse_special=parse_special)
                self.wire.send(Tokens(id, tuple(tokens)))
            case Detokenize(id, tokens):
                self.wire.send(Text(id, self.room.model.vocabulary.detokenize(tokens)))

    def _generate(self, record: Generate) -> None:
        room, generation = self.room, record.generation
        prepared = room.prepare(generation)
        if generation.render_only:
            final = Final("stop", prompt_tokens=len(prepared.tokens), rendered=prepared.text)
            self.wire.send(Step(((record.id, Chunk(final=final)),)))
            return
        if room.engine is None:
            raise ValueError("this model gives embeddings, not text")
        if prepared.truncated:
            self.wire.send(Warn(f"request {record.id}: {prepared.truncated} tokens of the input were cut to fit"))
        room.engine.submit(room.sequence(record.id, generation, prepared))

    def _load(self, load: Load) -> None:
        from server.worker.backends.llamacpp.model import LoadError
        from server.worker.loader import load_room

        reported = 0.0

        def progress(fraction: float) -> None:
            nonlocal reported
            if fraction - reported >= 0.02 or fraction == 1:
                reported = fraction
                self.wire.send(Loading(fraction))

        try:
            self.room, loaded = load_room(load, self._emit, self._fail, progress)
            self.room.warn = self._warn
        except LoadError as error:
            self.wire.send(LoadFailed("memory" if error.memory else "model", str(error)))
        except Exception as error:
            traceback.print_exc()
            self.wire.send(LoadFailed("model", f"the worker failed while loading: {type(error).__name__}"))
        else:
            self.wire.send(Ready(loaded))
            self._may_grow = True

    def _adopt(self, grown: Grown) -> None:
        if grown.context is not None:
            self.room.adopt(grown.context)
        else:
            slots = self.room.context.sequences
            self.wire.send(Warn(f"memory allows only {slots} requests side by side: lower num_ctx or num_parallel"))

    def _emit(self, chunks: list[tuple[int, Chunk]]) -> None:
        self.wire.send(Step(tuple(chunks)))

    def _warn(self, message: str) -> None:
        self.wire.send(Warn(f"a tool call is not held to its schema: {message}"))

    def _fail(self, id: int, message: str) -> None:  # noqa: A002
        self.wire.send(Failed(id, "internal", message))


def serve(fd: int) -> None:
    wire = Wire(fd)
    warm_up()
    Worker(wire).run()


def warm_up() -> None:
    """Imports what every load needs, so that a spare worker answers a ``Load`` at once."""
    import server.worker.loader  # noqa: F401
