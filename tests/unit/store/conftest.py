"""What the store's tests share: golden requests, a models directory, and a disk that dies at a chosen step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[2] / "golden"
STEPS = ("open", "fsync", "replace", "rename", "mkdir")


class PowerCut(BaseException):
    """Not an OSError: nothing may catch it and tidy up in a way that a real power cut would not allow."""


@pytest.fixture
def golden() -> dict[str, Any]:
    lines = (GOLDEN / "ollama-fb30760.jsonl").read_text().splitlines()
    return {record["name"]: record for record in map(json.loads, lines)}


@pytest.fixture
def nano() -> Path:
    return GOLDEN / "models" / "nano.gguf"


@pytest.fixture
def cut_power_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """``with cut_power_at(n) as steps:`` stops dead before the n-th fsync, rename, mkdir or open.

    ``steps`` lists what was called; its last item is "cut" if the power went.
    """

    @contextmanager
    def at(step: int) -> Iterator[list[str]]:
        seen: list[str] = []

        def wrap(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                seen.append(name)
                if len(seen) == step:
                    raise PowerCut(name)
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in STEPS:
                patch.setattr(os, name, wrap(name))
            try:
                yield seen
            except PowerCut:
                seen.append("cut")

    return at
