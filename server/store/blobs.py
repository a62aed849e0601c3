"""Content-addressed files: ``blobs/sha256-<hex>``, as Ollama lays them out.

A blob appears under its name only after its bytes were hashed, found right and made durable. Until then it
lives in ``blobs/.incoming``, locked by its writer; what no one holds there is swept at start-up. Knows nothing
of manifests: who still needs a blob is the caller's question.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, FileIO
from pathlib import Path

from server.errors import InvalidRequest, StoreError
from server.store.digests import Digest
from server.store.disk import disk_errors, fsync_folder, make_folders, open_regular

INCOMING = ".incoming"
CHUNK = 1 << 20
FICLONE = 0x40049409  # linux/fs.h: share the source's extents, copy on write
KEEP_PARTIAL_SECONDS = 7 * 24 * 3600


def mismatch(expected: Digest, found: Digest) -> str:
    return f'digest mismatch, expected "{expected}", got "{found}"'


class BlobWriter:
    """Takes bytes, hashes them as they come; ``commit`` gives them their name. Made by ``Blobs.writer``."""

    def __init__(self, blobs: Blobs, file: FileIO, temporary: Path, limit: int | None) -> None:
        self._blobs = blobs
        self._file = file
        self._temporary = temporary
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """StoreError when the disk is full, InvalidRequest past the announced size."""
        self.size += len(data)
        if self._limit is not None and self.size > self._limit:
            raise InvalidRequest(f"more than the announced {self._limit} bytes")
        self._hash.update(data)
        rest = memoryview(data)
        with disk_errors("storing a blob"):
            while rest:  # an unbuffered write may take less than all
                rest = rest[self._file.write(rest) :]

    def reflink(self, source: BufferedReader) -> bool:
        """Share the extents of an open file where the file system can."""
        if self.size or not _reflink(source, self._file):
            return False
        while chunk := self._file.read(CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)
        return True

    def copy(self, source: BufferedReader) -> None:
        """All of an open file that is not there yet."""
        if self.size:
            return
        while chunk := source.read(CHUNK):
            self.write(chunk)

    def commit(self, expected: Digest | None = None, *, keep_other: bool = True) -> Digest:
        """Durable under its true digest; InvalidRequest when that is not ``expected``.

        Content of another digest is kept under its true one, as Ollama does, unless ``keep_other`` is false.
        """
        found = Digest(self._hash.hexdigest())
        wrong = expected is not None and found != expected
        if not wrong or keep_other:
            with disk_errors("storing a blob"):
                self._blobs.publish(self._file, self._temporary, found)
        if expected is not None and wrong:
            raise InvalidRequest(mismatch(expected, found))
        return found


class Blobs:
    """The ``blobs`` folder of one models directory. Nothing is created before the first write."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "blobs"
        self.incoming = self.folder / INCOMING

    def path(self, digest: Digest) -> Path:
        """The only place where a digest becomes a path."""
        return self.folder / digest.file_name

    def partial(self, digest: Digest) -> Path:
        """Where a download of this blob lies until it is whole."""
        return self.folder / f"{digest.file_name}-partial"

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob that is there as a regular file, else None."""
        try:
            status = os.lstat(self.path(digest))
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def has(self, digest: Digest) -> bool:
        return self.size(digest) is not None

    def open(self, digest: Digest) -> BufferedReader:
        with disk_errors(f"reading blob {digest}"):
            return open_regular(self.path(digest))

    def read(self, digest: Digest, limit: int) -> bytes:
        """The whole of a small blob. StoreError when it is missing or over ``limit`` bytes."""
        with self.open(digest) as file, disk_errors(f"reading blob {digest}"):
            data = file.read(limit + 1)
        if len(data) > limit:
            raise StoreError(f"blob {digest} is over {limit} bytes, too large for what it should hold")
        return data

    def digests(self) -> Iterator[Digest]:
        """Every blob under a right name, regular or not."""
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(InvalidRequest):
                    if entry.name.startswith("sha256-"):
                        yield Digest.parse(entry.name)

    @contextmanager
    def writer(self, limit: int | None = None) -> Iterator[BlobWriter]:
        """A new blob. What was not committed at the end of the block is gone. ``limit``: announced size."""
        with disk_errors("storing a blob"):
            file, temporary = self._create()
        try:
            with file:
                yield BlobWriter(self, file, temporary, limit)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def add_bytes(self, data: bytes) -> tuple[Digest, bool]:
        """Store ``data``; True when it was not there before."""
        digest = Digest.of(data)
        if self.size(digest) == len(data):
            return digest, False
        with self.writer() as writer:
            writer.write(data)
            return writer.commit(), True

    def add_file(self, path: Path, *, follow: bool = True, expected: Digest | None = None) -> Digest:
        """Store a local file: a reflink where the file system can, a hard link where nobody may write to the file,
        else its bytes. A hard link to a file that may be written would let a later edit change a verified blob.

        InvalidRequest when its digest is not ``expected``; nothing is kept then.
        """
        with disk_errors("reading the file to store"):
            source = open_regular(path, follow=follow)
        with source, self.writer() as writer:
            with disk_errors("reading the file to store"):
                if not writer.reflink(source) and (linked := self._link(source, path)):
                    return self._adopt(linked, expected)
                writer.copy(source)
            return writer.commit(expected, keep_other=False)

    def _link(self, source: BufferedReader, path: Path) -> Path | None:
        """A second name in ``.incoming`` for a file that is read-only for everybody."""
        status = os.fstat(source.fileno())
        if status.st_mode & 0o222:
            return None
        target = self.incoming / secrets.token_hex(16)
        try:
            os.link(path.resolve(), target)
        except OSError:  # another file system
            return None
        if os.path.samestat(status, os.lstat(target)):
            return target
        target.unlink()
        return None

    def _adopt(self, path: Path, expected: Digest | None) -> Digest:
        try:
            with open_regular(path) as file:
                found = Digest(hashlib.file_digest(file, "sha256").hexdigest())
                if expected is not None and found != expected:
                    raise InvalidRequest(mismatch(expected, found))
                self.publish(file, path, found)
        finally:
            path.unlink(missing_ok=True)
        return found

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A private folder beside the blobs for a child to write into; gone at the end of the block."""
        with disk_errors("preparing a temporary folder"):
            make_folders(self.incoming)
            folder = self.incoming / secrets.token_hex(16)
            folder.mkdir(mode=0o700)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def adopt(self, path: Path) -> tuple[Digest, bool]:
        """Make a file in a ``staging`` folder a blob without copying it; True when it was not there before."""
        with disk_errors("storing a blob"), open_regular(path) as file:
            digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
            created = not self.has(digest)
            os.chmod(path, 0o644)
            self.publish(file, path, digest)
        return digest, created

    def publish(self, file: BufferedReader | FileIO, temporary: Path, digest: Digest) -> None:
        """fsync → rename → fsync of the folder; the bytes were hashed before. OSError."""
        os.fsync(file.fileno())
        os.replace(temporary, self.path(digest))
        fsync_folder(self.folder)

    def delete(self, digest: Digest) -> None:
        with disk_errors("removing a blob"), suppress(FileNotFoundError):
            self.path(digest).unlink()

    def unfinished(self) -> Iterator[Path]:
        """The files of downloads that broke off."""
        with suppress(FileNotFoundError):
            yield from [path for path in self.folder.iterdir() if "-partial" in path.name]

    def sweep_incoming(self) -> int:
        """Remove what crashed writers left and downloads untouched for a week; how many entries went."""
        removed = 0
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self.incoming)):
                removed += _remove_if_abandoned(Path(entry.path))
        oldest = time.time() - KEEP_PARTIAL_SECONDS
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self.folder)):
                if "-partial" in entry.name and entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < oldest:
                            os.unlink(entry.path)
                            removed += 1
        return removed

    def _create(self) -> tuple[FileIO, Path]:
        make_folders(self.incoming)
        while True:
            path = self.incoming / secrets.token_hex(16)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:  # a sweep may have come between the two lines above
                return open(descriptor, "r+b", buffering=0), path
            os.close(descriptor)


def _reflink(source: BufferedReader, target: FileIO) -> bool:
    try:
        fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError("storing a blob: no space left on device; free some space and try again") from error
        return False
    return True


def _remove_if_abandoned(path: Path) -> int:
    """1 when nobody holds the lock of this file or folder and it could be removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        with suppress(OSError):
            path.unlink()  # a link has no business here
            return 1
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return 1
