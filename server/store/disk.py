"""What the store asks of the file system: atomic files, safe opens, and errors without paths.

A final name appears only with its whole content behind it: write → fsync → rename → fsync of the folder. Files
that a client had a hand in are opened without following links and only if they are regular.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from server.errors import StoreError

FULL = (errno.ENOSPC, errno.EDQUOT)
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")  # what ``write_atomic`` leaves when the power goes


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """OSError → StoreError that says what was going on and why it failed, and no path."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StoreError(f"{doing}: no space left on device; free some space and try again") from error
        raise StoreError(f"{doing}: {(error.strerror or 'input/output error').lower()}") from error


def open_regular(path: Path, *, follow: bool = False) -> BufferedReader:
    """Open for reading; OSError unless it is a regular file (and, without ``follow``, not a link to one)."""
    # O_NONBLOCK: opening a FIFO must not wait for its writer; it means nothing for a regular file.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return open(descriptor, "rb")


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(path: Path) -> None:
    """``mkdir -p`` whose new entries survive a power cut."""
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        fsync_folder(folder.parent)


def write_atomic(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` wholly or not at all. Readers see the old file or the new one."""
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)
