"""A blob on its way: ``blobs/sha256-<hex>-partial`` beside the notes of its parts, as Ollama lays them out.

The notes are written after the data is durable, so that they never promise more than a power cut leaves. The file is
locked: of several processes that want one blob, one writes. It gets its name only when its hash is right.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress

from server.errors import StoreError
from server.store.blobs import Blobs
from server.store.digests import Digest
from server.store.disk import disk_errors, fsync_folder, make_folders
from server.store.registry import parts as planning
from server.store.registry.parts import Part

CHUNK = 1 << 20
MAX_NOTE = 4096
KEEP_FREE = 1 << 20


class PartialBlob:
    """All methods block on the disk. ``write`` may be called from several threads, ``digest_to`` from one."""

    def __init__(self, blobs: Blobs, digest: Digest, total: int) -> None:
        self.digest = digest
        self.total = total
        self.parts: list[Part] = []
        self._blobs = blobs
        self._path = blobs.partial(digest)
        self._file = -1
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._noted: dict[int, int] = {}
        self._noting = threading.Lock()

    def open(self, part_size: int) -> bool:
        """Take the file over with what an earlier run left. False while another process writes it. StoreError."""
        with disk_errors("downloading a blob"):
            make_folders(self._path.parent)
            if not self._lock():
                return False
            present = os.fstat(self._file).st_size
            self.parts = planning.resume(self._notes(), self.total, present) or []
            if not self.parts:
                self._plan(part_size)
            self._check_space()
        return True

    def _lock(self) -> bool:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                return False
            with suppress(FileNotFoundError):  # the one before us may have renamed it meanwhile
                if os.path.samestat(os.fstat(self._file), os.lstat(self._path)):
                    return True
            self.close()

    def _plan(self, part_size: int) -> None:
        self._forget_notes()
        os.ftruncate(self._file, 0)
        self.parts = planning.plan(self.total, part_size)

    def whole(self) -> None:
        """For a source that has no ranges: one part, of which the gapless beginning is kept."""
        with self._noting:
            done = planning.prefix(self.parts)
            self._forget_notes()
            self._noted.clear()
            self.parts = [Part(0, 0, self.total, done)]

    @property
    def completed(self) -> int:
        return sum(part.completed for part in self.parts)

    def write(self, part: Part, data: Sequence[bytes]) -> None:
        """The next bytes of ``part``. StoreError when the disk is full."""
        with disk_errors("downloading a blob"):
            for piece in data:
                rest = memoryview(piece)
                while rest:
                    written = os.pwrite(self._file, rest, part.start)
                    part.completed += written
                    rest = rest[written:]

    def checkpoint(self) -> None:
        """Make durable what is there, then note it."""
        with self._noting, disk_errors("downloading a blob"):
            counts = {part.number: part.completed for part in self.parts}
            changed = [part for part in self.parts if self._noted.get(part.number) != counts[part.number]]
            os.fsync(self._file)
            for part in changed:
                self._write_note(Part(part.number, part.offset, part.size, counts[part.number]))
                self._noted[part.number] = counts[part.number]
            fsync_folder(self._path.parent)

    def digest_to(self, end: int) -> None:
        """Hash up to ``end``; everything before must be there."""
        with disk_errors("reading what was downloaded"):
            while self._hashed < end:
                data = os.pread(self._file, min(CHUNK, end - self._hashed), self._hashed)
                if not data:
                    raise StoreError("reading what was downloaded: the file is shorter than it was")
                self._hash.update(data)
                self._hashed += len(data)

    @property
    def hashed(self) -> int:
        return self._hashed

    def publish(self) -> None:
        """Give the blob its name, or remove it when it is not what was asked for. StoreError."""
        found = self._hash.hexdigest()
        if self._hashed != self.total or found != self.digest.hex:
            self.discard()
            raise StoreError(f"digest mismatch, file must be downloaded again: want {self.digest}, got sha256:{found}")
        with self._noting, disk_errors("downloading a blob"):
            os.ftruncate(self._file, self.total)
            os.fsync(self._file)
            os.replace(self._path, self._blobs.path(self.digest))
            fsync_folder(self._path.parent)
            self._forget_notes()

    def discard(self) -> None:
        with self._noting, disk_errors("downloading a blob"):
            self._path.unlink(missing_ok=True)
            self._forget_notes()

    def exists(self) -> bool:
        return self._path.exists()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write_note(self, part: Part) -> None:
        """A part that has not begun is no loss: only what says more is worth waiting for the disk."""
        path = self._path.with_name(f"{self._path.name}-{part.number}")
        temporary = self._blobs.incoming / path.name
        make_folders(temporary.parent)
        with temporary.open("wb") as file:
            file.write(part.note())
            if part.completed:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)

    def _notes(self) -> list[bytes]:
        notes = []
        for path in self._path.parent.glob(f"{self._path.name}-*"):
            with path.open("rb") as file:
                notes.append(file.read(MAX_NOTE))
        return notes

    def _forget_notes(self) -> None:
        for path in self._path.parent.glob(f"{self._path.name}-*"):
            path.unlink(missing_ok=True)

    def _check_space(self) -> None:
        allocated = os.fstat(self._file).st_blocks * 512
        if self.total - allocated + KEEP_FREE > shutil.disk_usage(self._path.parent).free:
            raise StoreError("downloading a blob: no space left on device; free some space and try again")
