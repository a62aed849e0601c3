"""What can go wrong, drawn once.

    ServerError 500
    ├─ InvalidRequest 400           the client's input; says what to change
    │   ├─ Unsupported 400          a capability or parameter this model or server lacks
    │   └─ TooLarge 413             a body or field over its limit
    ├─ Forbidden 403                Host, Origin or policy
    ├─ ModelNotFound 404
    ├─ Busy 503                     queue full, draining, crash-loop breaker (may carry retry_after)
    ├─ DoesNotFit 500               not enough memory for the model
    ├─ StoreError 500               disk: corrupt, full, unreadable
    ├─ RunnerError 500              this request failed; the model lives
    │   └─ RunnerDied 500           the worker is gone; the manager drops it, the next request reloads
    └─ UpstreamError 502            registry or cloud provider

Rooms raise these; one middleware (and the stream writer, after the first byte) renders them. The text of an
error is shown to clients as it is: no path, address, environment value or traceback may be in it. A
cancellation is not an error.
"""

from __future__ import annotations


class ServerError(Exception):
    """Base of every error that a client may see. ``status`` is its HTTP status unless given anew."""

    status: int = 500

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status


class InvalidRequest(ServerError):
    status = 400


class Unsupported(InvalidRequest):
    """The model or this server lacks what the request asks for."""


class TooLarge(InvalidRequest):
    status = 413


class Forbidden(ServerError):
    status = 403


class ModelNotFound(ServerError):
    status = 404


class Busy(ServerError):
    """Try again later. ``retry_after`` in seconds becomes the Retry-After header."""

    status = 503

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DoesNotFit(ServerError):
    """The model needs more memory than this machine can give, even after eviction."""


class StoreError(ServerError):
    """The disk said no, or holds something that cannot be right."""


class RunnerError(ServerError):
    """One request failed inside the worker; the worker goes on."""


class RunnerDied(RunnerError):
    """The worker process is gone."""


class UpstreamError(ServerError):
    status = 502
