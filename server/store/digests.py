"""The only digest type: a SHA-256 of content, in the one spelling that may become a file name.

Nothing else in the house joins digest text into a path; a blob's path is asked of ``store.blobs`` with a
``Digest``, and a ``Digest`` exists only after ``parse`` or ``of`` has seen 64 lower-case hex digits.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from server.errors import InvalidRequest

SPELLING = re.compile(r"sha256[:-]([0-9a-f]{64})")
HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """``hex`` is checked however the object was made."""

    hex: str

    def __post_init__(self) -> None:
        if not isinstance(self.hex, str) or HEX.fullmatch(self.hex) is None:
            raise InvalidRequest("invalid digest format")

    @classmethod
    def parse(cls, text: object) -> Digest:
        """``sha256:<64 lower-case hex>``, or ``sha256-<hex>`` as it stands in paths. InvalidRequest otherwise."""
        match = SPELLING.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidRequest("invalid digest format")
        return cls(match[1])

    @classmethod
    def of(cls, data: bytes) -> Digest:
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def file_name(self) -> str:
        return f"sha256-{self.hex}"

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
