"""Stop strings in a stream of text: where the answer ends, and what may not be sent yet."""

from __future__ import annotations

import re


class StopMatcher:
    """Finds the stop string that is complete first (of several that end together, the longest).

    The result does not depend on how the text was cut into pieces. Nothing may be fed after a hit.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._heads = re.compile("|".join(re.escape(stop[0]) for stop in self._stops))
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(text that may be sent, the stop string that was hit or ""). The stop string itself is never sent."""
        if not self._stops or (not self._held and not self._heads.search(text)):
            return text, ""
        text = self._held + text
        hits = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if hits:
            _, at, stop = min(hits)
            self._held = ""
            return text[:at], stop
        kept = max(self._overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept], ""

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of ``text`` that begins ``stop``."""
        at = max(0, len(text) - len(stop) + 1)
        while (at := text.find(stop[0], at)) >= 0:
            if stop.startswith(text[at:]):
                return len(text) - at
            at += 1
        return 0

    def flush(self) -> str:
        """What was held back, once the text has ended without a stop string."""
        held, self._held = self._held, ""
        return held
