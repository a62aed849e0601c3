"""Prefixes on disk: what was written is read, and a disk that is full costs only them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from server.messages import Shutdown, Warn
from server.worker import prefix_store
from server.worker.main import Worker

KEY = "ab" * 32
PREFIXES = [(np.arange(5, dtype=np.int32), bytearray(b"state"))]


def test_what_is_saved_is_loaded_by_the_same_key_and_layout(tmp_path: Path) -> None:
    assert prefix_store.save(tmp_path, KEY, "layout", PREFIXES, 100) == 1
    ((tokens, state),) = prefix_store.load(tmp_path, KEY, "layout")
    assert (tokens.tolist(), bytes(state)) == ([0, 1, 2, 3, 4], b"state")
    assert not list(prefix_store.load(tmp_path, "cd" * 32, "layout"))
    assert not list(prefix_store.load(tmp_path, KEY, "other"))


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        prefix_store.save(tmp_path, KEY, "layout", PREFIXES, 100)
    assert not list(tmp_path.iterdir())


class Room:
    engine = embedder = None
    closed = False
    save_prefixes = staticmethod(full)

    def close(self) -> None:
        self.closed = True


class Wire:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def receive(self) -> None:
        raise AssertionError("nobody reads here")

    def send(self, record: Any) -> None:
        self.sent.append(record)


def test_a_worker_that_cannot_save_says_so_and_ends_in_good_order(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, room = Wire(), Room()
    worker = Worker(cast(Any, wire))
    worker.room = room
    monkeypatch.setattr(worker, "read", lambda: None)
    worker.inbox.put(Shutdown(True))
    worker.run()
    assert wire.sent == [Warn("prefixes are not kept over this unload: no space left on device")]
    assert room.closed
