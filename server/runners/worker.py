"""A loaded model in a worker process on this machine: the one real ``Runner`` so far.

Every open request ends once: with its last chunk, its answer, or an error. A worker that dies, or that is
asked something and says nothing for ``hang_timeout`` (it answers pings between two engine steps), is killed
and fails all of them at once. No task runs per request or per token.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

from server import messages
from server.errors import DoesNotFit, InvalidRequest, RunnerDied, RunnerError, ServerError, Unsupported
from server.messages import Load, Record
from server.runners.channel import Channel
from server.runners.process import WorkerProcess
from server.types import Chunk, Embeddings, Generation, Loaded, RunnerStats

logger = logging.getLogger(__name__)

DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check the server log for details"
)
STALLED = "timed out waiting for model to load"
BEAT, IDLE_BEAT, SETTLE = 1.0, 10.0, 0.25
"""Seconds between pings while the worker works, while it idles, and until the one after the last request."""
CLOSE_GRACE = 5.0

R = TypeVar("R", messages.Embedded, messages.Tokens, messages.Text, messages.Pong)


class _Stream:
    """Chunks of one generation between the channel and its reader."""

    __slots__ = ("chunks", "ended", "error", "waiter")

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.error: ServerError | None = None
        self.ended = False
        self.waiter: asyncio.Future[None] | None = None

    def push(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.ended = self.ended or chunk.final is not None
        self._wake()

    def fail(self, error: ServerError) -> None:
        if not self.ended:
            self.error, self.ended = error, True
            self._wake()

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def take(self) -> list[Chunk]:
        """All that has come since the last time, at least one."""
        while not self.chunks:
            if self.error is not None:
                raise self.error
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        chunks, self.chunks = self.chunks, []
        return chunks


class WorkerRunner:
    """Made by ``start``. ``on_death`` is called once if the worker ends without having been told to."""

    def __init__(self, process: WorkerProcess, hang_timeout: float, on_death: Callable[[], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._hang_timeout = hang_timeout
        self._on_death = on_death
        self._channel: Channel | None = None
        self._loaded: asyncio.Future[Loaded] = self._loop.create_future()
        self._on_progress: Callable[[float], None] | None = None
        self._stall_timeout = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ids = itertools.count(1)
        self._streams: dict[int, _Stream] = {}
        self._answers: dict[int, asyncio.Future[Record]] = {}
        self._beat = BEAT
        self._silence = 0.0
        self._pinged = False
        self._alive = False
        self._closing: asyncio.Future[None] | None = None
        self.stats = RunnerStats()

    @property
    def loaded(self) -> Loaded:
        return self._loaded.result()

    @property
    def alive(self) -> bool:
        return self._alive

    @property
    def pid(self) -> int:
        return self._process.pid

    # -- loading ----------------------------------------------------------------------------------------

    @classmethod
    async def start(
        cls,
        load: Load,
        *,
        process: WorkerProcess,
        on_progress: Callable[[float], None] | None = None,
        on_death: Callable[[], None] | None = None,
        stall_timeout: float = 300.0,
        hang_timeout: float = 60.0,
    ) -> WorkerRunner:
        """Load into ``process`` and wait until it can answer. Timeouts of 0 mean never.

        ``DoesNotFit``: not enough memory. ``RunnerDied``: the worker ended while loading. ``RunnerError``: this
        file will not load, or there was no progress for ``stall_timeout``. Cancelling kills the worker.
        """
        runner = cls(process, hang_timeout, on_death)
        runner._on_progress, runner._stall_timeout = on_progress, stall_timeout
        try:
            runner._channel = await Channel.connect(process.take_socket(), runner._received, runner._lost)
            runner._expect_progress()
            await runner._channel.send(load)
            await runner._loaded
        except BaseException:
            runner._alive = False
            runner._stop_timer()
            process.kill()
            _forget(runner._loaded)
            await asyncio.shield(process.exited)
            raise
        runner._alive = True
        runner._arm(IDLE_BEAT)
        return runner

    def _expect_progress(self) -> None:
        self._stop_timer()
        if self._stall_timeout > 0:
            self._timer = self._loop.call_later(self._stall_timeout, self._load_failed, RunnerError(STALLED))

    def _load_failed(self, error: ServerError) -> None:
        if not self._loaded.done():
            self._loaded.set_exception(error)

    def _progress(self, record: messages.Loading) -> None:
        self._expect_progress()
        if self._on_progress is not None:
            self._on_progress(record.fraction)

    def _ready(self, record: messages.Ready) -> None:
        self._stop_timer()
        if not self._loaded.done():
            self._loaded.set_result(record.loaded)

    # -- requests ---------------------------------------------------------------------------------------

    async def generate(self, generation: Generation) -> AsyncGenerator[Chunk, None]:
        request, stream = next(self._ids), _Stream()
        channel = self._open()
        self._streams[request] = stream
        try:
            await channel.send(messages.Generate(request, generation))
            while True:
                for chunk in await stream.take():
                    yield chunk
                    if chunk.final is not None:
                        return
        finally:
            self._streams.pop(request, None)
            self._ended(request, abort=not stream.ended)

    async def embed(
        self,
        inputs: Sequence[str],
        *,
        truncate: bool = True,
        dimensions: int = 0,
        normalize: bool = True,
        num_ctx: int = 0,
    ) -> Embeddings:
        request = next(self._ids)
        record = messages.Embed(request, tuple(inputs), truncate, dimensions, normalize, num_ctx)
        answer = await self._ask(request, record, messages.Embedded)
        return answer.embeddings

    async def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> tuple[int, ...]:
        request = next(self._ids)
        record = messages.Tokenize(request, text, add_special, parse_special)
        return (await self._ask(request, record, messages.Tokens)).tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        request = next(self._ids)
        return (await self._ask(request, messages.Detokenize(request, tuple(tokens)), messages.Text)).text

    async def ping(self) -> RunnerStats:
        request = next(self._ids)
        return (await self._ask(request, messages.Ping(request), messages.Pong)).stats

    async def _ask(self, request: int, record: Record, kind: type[R]) -> R:
        channel = self._open()
        answer: asyncio.Future[Record] = self._loop.create_future()
        self._answers[request] = answer
        try:
            await channel.send(record)
            got = await answer
        finally:
            self._answers.pop(request, None)
            self._ended(request, abort=not answer.done() or answer.cancelled())
            _forget(answer)
        if not isinstance(got, kind):
            raise RunnerError(f"the model runner answered {type(got).__name__} where {kind.__name__} was asked for")
        return got

    def _open(self) -> Channel:
        if self._channel is None or not self._alive:
            raise RunnerDied(DIED)
        if not self._busy:
            self._arm(BEAT)
        return self._channel

    def _ended(self, request: int, *, abort: bool) -> None:
        if not self._alive or self._channel is None:
            return
        if abort:
            self._channel.post(messages.Abort(request))
        if not self._busy:
            self._arm(SETTLE)

    @property
    def _busy(self) -> bool:
        return bool(self._streams or self._answers)

    # -- what the worker says ---------------------------------------------------------------------------

    def _received(self, record: Record) -> None:
        self._silence = 0.0
        match record:
            case messages.Step(chunks):
                for request, chunk in chunks:
                    stream = self._streams.get(request)
                    if stream is not None:
                        stream.push(chunk)
            case messages.Pong(0, stats):
                self.stats, self._pinged = stats, False
            case messages.Failed():
                self._failed(record)
            case messages.Pong() | messages.Embedded() | messages.Tokens() | messages.Text():
                self._answered(record.id, record)
            case messages.Warn(message):
                logger.warning("worker %d: %s", self.pid, message)
            case messages.Loading():
                self._progress(record)
            case messages.Ready():
                self._ready(record)
            case messages.LoadFailed(kind, message):
                self._load_failed(DoesNotFit(message) if kind == "memory" else RunnerError(message))
            case _:
                logger.error("worker %d sent a record that only the server sends", self.pid)

    def _answered(self, request: int, record: Record) -> None:
        answer = self._answers.get(request)
        if answer is not None and not answer.done():
            answer.set_result(record)

    def _failed(self, record: messages.Failed) -> None:
        kinds = {"invalid": InvalidRequest, "unsupported": Unsupported}
        self._fail_one(record.id, kinds.get(record.kind, RunnerError)(record.message))

    def _fail_one(self, request: int, error: ServerError) -> None:
        stream, answer = self._streams.get(request), self._answers.get(request)
        if stream is not None:
            stream.fail(error)
        if answer is not None and not answer.done():
            answer.set_exception(error)

    # -- is it well? ------------------------------------------------------------------------------------

    def _arm(self, beat: float) -> None:
        self._stop_timer()
        self._beat = beat if self._hang_timeout <= 0 else min(beat, self._hang_timeout / 4)
        self._timer = self._loop.call_later(self._beat, self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        """Silence is counted in ticks, not by the clock: a server that was itself held up blames nobody."""
        if self._busy or self._pinged:
            self._silence += self._beat
            if 0 < self._hang_timeout <= self._silence:
                logger.error("worker %d has said nothing for %.0f s: killing it", self.pid, self._silence)
                self._process.kill()
                self._lost(None)
                return
        else:
            self._silence = 0.0
        if not self._pinged and self._channel is not None:
            self._pinged = True
            self._channel.post(messages.Ping(0))
        self._arm(BEAT if self._busy else IDLE_BEAT)

    def _lost(self, error: Exception | None) -> None:
        """The channel has ended, and with it the worker."""
        channel, self._channel = self._channel, None
        self._stop_timer()
        if channel is not None:
            channel.close()
        if not self._loaded.done():
            self._process.kill()
            self._process.exited.add_done_callback(self._died_loading)
            return
        died, self._alive = self._alive, False
        for request in (*self._streams, *self._answers):
            self._fail_one(request, RunnerDied(DIED))
        if died:
            self._mourn(error)

    def _died_loading(self, _: asyncio.Future[int]) -> None:
        self._log_end()
        self._load_failed(RunnerDied(f"model runner process has terminated: {self._process.how_it_ended()}"))

    def _mourn(self, error: Exception | None) -> None:
        if error is not None:
            logger.error("worker %d: the channel broke: %s", self.pid, error)
        self._process.kill()
        self._process.exited.add_done_callback(lambda _: self._log_end())
        if self._on_death is not None:
            self._on_death()

    def _log_end(self) -> None:
        lines = "".join(f"\n  {line}" for line in self._process.lines)
        logger.error("worker %d has ended: %s%s", self.pid, self._process.how_it_ended(), lines)

    # -- leaving ----------------------------------------------------------------------------------------

    async def close(self, *, save: bool = True) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close(save))
        await asyncio.shield(self._closing)

    async def _close(self, save: bool) -> None:
        self._alive = False
        self._stop_timer()
        for request in (*self._streams, *self._answers):
            self._fail_one(request, RunnerDied(DIED))
        if self._channel is not None:
            self._channel.post(messages.Shutdown(save))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.exited), CLOSE_GRACE)
        await self._process.stop()
        if self._channel is not None:
            self._channel.close()


def _forget(future: asyncio.Future[Any]) -> None:
    """Nobody will ask it any more: no complaint about an exception that was never seen."""
    if not future.cancel() and not future.cancelled():
        future.exception()
