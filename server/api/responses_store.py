"""Conversations that a later request continues by the id of a response: in memory, for an hour, within a bound.

A conversation is its messages alone: what came before, what was asked, and the answer. The sizes of conversations that
continue each other are counted in full each time, so the bound is never passed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from server.api.gojson import encode
from server.errors import InvalidRequest
from server.types import Message

SECONDS = 3600.0
MAX_BYTES = 64 * 2**20
PER_MESSAGE = 512
"""About what a message weighs in memory besides its text and images."""

Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    messages: Conversation
    size: int
    until: float


class ResponseStore:
    """``clock``: seconds that never go back. The oldest conversations go first."""

    def __init__(
        self, seconds: float = SECONDS, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.size = 0

    def keep(self, identity: str, messages: Conversation) -> None:
        self._forget_old()
        size = sum(map(_size, messages))
        self._kept[identity] = _Kept(messages, size, self._clock() + self._seconds)
        self.size += size
        while self.size > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def find(self, identity: str) -> Conversation:
        """InvalidRequest where it was never kept, or is no longer."""
        self._forget_old()
        kept = self._kept.get(identity)
        if kept is None:
            raise InvalidRequest(
                f"previous response with id '{identity}' not found: responses are kept for "
                f"{round(self._seconds / 60)} minutes, unless store is false; send the conversation as input instead"
            )
        return kept.messages

    def _forget_old(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._drop(next(iter(self._kept)))

    def _drop(self, identity: str) -> None:
        self.size -= self._kept.pop(identity).size


def _size(message: Message) -> int:
    calls = sum(len(call.name) + len(encode(call.arguments)) for call in message.tool_calls)
    text = 4 * (len(message.content) + len(message.thinking))
    return PER_MESSAGE + text + calls + sum(map(len, message.images))


RESPONSES = web.AppKey("responses", ResponseStore)
