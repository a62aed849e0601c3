"""Prefixes on disk between an unload and the next load of the same model.

One file, readable by its owner only and sealed with a key that lives in the server's memory: libllama's state
reader trusts what it is given, so only what this server wrote itself may reach it. A file that is damaged,
foreign or of another layout is ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from server.worker.engine.sequence import Tokens

NAME = "prefixes.bin"
SEAL = 32
HEAD = struct.Struct("<I")


def save(folder: Path, key: str, layout: str, prefixes: Iterable[tuple[Tokens, bytearray]], budget: int) -> int:
    """Writes the first prefixes that fit ``budget`` bytes; how many. ``layout`` must match at ``load``. OSError."""
    chosen: list[tuple[Tokens, bytearray]] = []
    for tokens, data in prefixes:
        if len(data) <= budget:
            chosen.append((tokens, data))
            budget -= len(data)
    path = folder / NAME
    if not chosen:
        path.unlink(missing_ok=True)
        return 0
    head = json.dumps({"layout": layout, "sizes": [[int(t.size), len(d)] for t, d in chosen]}).encode()
    temporary = path.with_suffix(f".{os.getpid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _write(temporary, key, head, chosen)
        temporary.rename(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    return len(chosen)


def _write(path: Path, key: str, head: bytes, chosen: list[tuple[Tokens, bytearray]]) -> None:
    """The seal comes first in the file, and is known last."""
    seal = hmac.new(bytes.fromhex(key), digestmod=hashlib.sha256)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(bytes(SEAL))
        for part in (HEAD.pack(len(head)), head, *(p for t, d in chosen for p in (t.tobytes(), d))):
            seal.update(part)
            file.write(part)
        file.seek(0)
        file.write(seal.digest())
        file.flush()
        os.fsync(file.fileno())


def load(folder: Path, key: str, layout: str) -> Iterator[tuple[Tokens, bytearray]]:
    """The saved prefixes, the most useful last; nothing if the seal or the layout differs."""
    try:
        with open(os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            content = file.read()
    except OSError:
        return
    view = memoryview(content)
    expected = hmac.new(bytes.fromhex(key), view[SEAL:], hashlib.sha256).digest()
    if len(content) < SEAL + HEAD.size or not hmac.compare_digest(expected, content[:SEAL]):
        return
    (size,) = HEAD.unpack_from(view, SEAL)
    at = SEAL + HEAD.size + size
    head = json.loads(bytes(view[SEAL + HEAD.size : at]))
    if head["layout"] != layout:
        return
    found: list[tuple[Tokens, bytearray]] = []
    for count, length in head["sizes"]:
        tokens = np.frombuffer(view[at : at + 4 * count], np.int32).copy()
        at += 4 * count
        found.append((tokens, bytearray(view[at : at + length])))
        at += length
    yield from reversed(found)
