"""What the operator decided about registries, handed in by the composition root. Knows no environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """``registries``: hosts allowed besides the known ones. ``mirrors``: host → URL asked first on a pull.

    ``proxies``: scheme → URL; ``no_proxy``: hosts reached without. ``key``: the ed25519 key that signs token requests;
    ``logins``: Docker's ``config.json``; ``hf_cache``: Hugging Face's folder of downloads. Times are seconds, sizes
    bytes; ``part_size`` 0 = by the size of the blob.
    """

    registries: tuple[str, ...] = ()
    mirrors: Mapping[str, str] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    no_proxy: tuple[str, ...] = ()
    key: Path | None = None
    logins: Path | None = None
    hf_token: str = field(default="", repr=False)
    hf_cache: Path | None = None
    agent: str = "ollama/0.0.0 (amd64 linux)"
    streams: int = 8
    part_size: int = 0
    stall: float = 30.0
    connect: float = 30.0
    retries: int = 6
    backoff: float = 1.0
