"""What one request did, for its log line and the metrics: never what it said.

Made by the middleware, filled in by the doors and the stream writer, reported once when the request ends.
"""

from __future__ import annotations

import logging
import secrets
import time

from aiohttp import web

from server.errors import ServerError
from server.types import Final

logger = logging.getLogger("server.requests")


class RequestLog:
    """``outcome``: a finish reason, "error" or "cancelled". ``streaming``: the answer is, or would be, a stream."""

    __slots__ = ("final", "id", "model", "outcome", "path", "started", "streaming", "ttft")

    def __init__(self, path: str) -> None:
        self.id = secrets.token_hex(6)
        self.path = _printable(path)
        self.started = time.monotonic_ns()
        self.model = ""
        self.ttft = 0
        self.final: Final | None = None
        self.outcome = ""
        self.streaming = False

    def first(self) -> None:
        """The first chunk is here."""
        self.ttft = time.monotonic_ns() - self.started

    def finished(self, final: Final) -> None:
        self.final = final
        self.outcome = final.reason
        if final.truncated:
            logger.warning("%s %s: %d tokens were cut from the input", self.id, _printable(self.model), final.truncated)

    def elapsed(self) -> int:
        """Nanoseconds since the request's headers were read; never zero."""
        return max(1, time.monotonic_ns() - self.started)

    def failed(self, error: Exception) -> str:
        """The text for the client; what is nobody's business but the operator's goes to the log."""
        self.outcome = "error"
        if isinstance(error, ServerError):
            return error.message
        logger.error("%s %s: internal error", self.id, self.path, exc_info=error)
        return f"internal error (id={self.id})"

    def report(self, status: int) -> None:
        """One line."""
        model = _printable(self.model) or "-"
        final = self.final
        if final is None:
            logger.info("%s %s %d model=%s %.1fms", self.id, self.path, status, model, self.elapsed() / 1e6)
            return
        logger.info(
            "%s %s %d model=%s prompt=%d cached=%d output=%d ttft=%.1fms rate=%.1ftok/s total=%.1fms %s",
            self.id,
            self.path,
            status,
            model,
            final.prompt_tokens,
            final.cached_tokens,
            final.output_tokens,
            self.ttft / 1e6,
            final.output_tokens / (final.decode_ns / 1e9) if final.decode_ns else 0.0,
            self.elapsed() / 1e6,
            self.outcome,
        )


def _printable(text: str) -> str:
    """Paths and model names come from clients: what could end a log line or colour a terminal is spelled out."""
    return text.encode("unicode_escape").decode("ascii")


KEY = web.RequestKey("log", RequestLog)


def of(request: web.Request) -> RequestLog:
    return request[KEY]
