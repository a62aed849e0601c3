"""Stops loading a model that keeps crashing: three times within a minute, then a pause, then one more chance.

Pure but for what it remembers; times are monotonic seconds handed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

CRASHES, WITHIN, PAUSE = 3, 60.0, 30.0


@dataclass(slots=True)
class _Record:
    crashes: deque[float] = field(default_factory=lambda: deque(maxlen=CRASHES))
    open_until: float = 0.0
    trial: bool = False


class Breaker:
    """By key of the model. After the pause the model is tried again; one more crash then means another pause."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def crashed(self, key: str, now: float) -> None:
        record = self._records.setdefault(key, _Record())
        record.crashes.append(now)
        often = len(record.crashes) == CRASHES and now - record.crashes[0] <= WITHIN
        if record.trial or often:
            record.open_until, record.trial = now + PAUSE, False

    def pause(self, key: str, now: float) -> float:
        """Seconds until ``key`` may be tried again; 0 = now, and this may be the trial."""
        record = self._records.get(key)
        if record is None or not record.open_until:
            return 0.0
        if now < record.open_until:
            return record.open_until - now
        record.open_until, record.trial = 0.0, True
        return 0.0

    def worked(self, key: str) -> None:
        """A request of ``key`` ended well: after a pause, that closes the matter."""
        record = self._records.get(key)
        if record is not None and record.trial:
            del self._records[key]
