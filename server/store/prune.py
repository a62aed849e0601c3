"""Which blobs may go: nothing that a manifest names, a worker holds, or a running create has in hand.

``prune`` follows a delete, ``sweep`` a start of the server. Both take the sure side: while any manifest cannot be
read, nobody knows what it needs, and no blob is removed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.errors import InvalidRequest, StoreError
from server.store.blobs import Blobs
from server.store.digests import Digest
from server.store.disk import TEMPORARY
from server.store.manifests import Manifests

logger = logging.getLogger(__name__)

ORPHAN_SECONDS = 3600
Keep = Callable[[Digest], bool]


def referenced(manifests: Manifests) -> tuple[set[Digest], list[Path]]:
    """Every digest that some manifest names, and the manifest files that could not be read."""
    digests: set[Digest] = set()
    bad: list[Path] = []
    for entry in manifests.entries():
        try:
            digests.update(manifests.read(entry).blobs())
        except StoreError as error:
            if entry.path.exists():  # it may just have been deleted
                logger.warning("%s: %s", entry.name.short(), error.message)
                bad.append(entry.path)
    return digests, bad


def prune(manifests: Manifests, blobs: Blobs, candidates: Iterable[Digest], keep: Keep) -> set[Digest]:
    """Remove those candidates that nobody needs. Returns the ones that only ``keep`` held back."""
    wanted = set(candidates)
    used, bad = referenced(manifests)
    if bad:
        logger.warning("%d manifests cannot be read: unused blobs stay until `llamada fsck --repair`", len(bad))
        return set()
    held = {digest for digest in wanted - used if keep(digest)}
    for digest in wanted - used - held:
        blobs.delete(digest)
    return held


def remove_unused(manifests: Manifests, blobs: Blobs, *, everything: bool) -> tuple[int, int]:
    """For a store that no server uses: orphans over an hour old go; with ``everything`` all of them, and unfinished
    downloads. How many files, of how many bytes. StoreError while a manifest cannot be read."""
    used, bad = referenced(manifests)
    if bad:
        raise StoreError(
            f"{len(bad)} manifests cannot be read, so nobody knows what they need: `llamada fsck --repair`"
        )
    oldest = time.time() + 1 if everything else time.time() - ORPHAN_SECONDS
    gone = [path for d in blobs.digests() if d not in used and _older(path := blobs.path(d), oldest)]
    gone += list(blobs.unfinished()) if everything else []
    nbytes = 0
    for path in gone:
        nbytes += os.lstat(path).st_blocks * 512
        path.unlink()
    blobs.sweep_incoming()
    manifests.remove_empty_folders()
    return len(gone), nbytes


@dataclass(frozen=True, slots=True)
class Swept:
    """What a start-up sweep did."""

    quarantined: tuple[str, ...] = ()
    blobs: int = 0
    leftovers: int = 0


def sweep(manifests: Manifests, blobs: Blobs, *, keep: Keep, prune_orphans: bool = True) -> Swept:
    """Start-up: leftovers of crashed writers go, unreadable manifests are put aside, orphans over an hour old go.

    Orphans stay when a manifest had to be put aside: what it needed may be pulled or created again meanwhile.
    """
    leftovers = blobs.sweep_incoming() + _remove_half_written(manifests)
    _rename_old_spelling(blobs)
    used, bad = referenced(manifests)
    put_aside = []
    for path in bad:
        with suppress(StoreError):
            put_aside.append(manifests.quarantine(path).name)
    removed = 0
    if prune_orphans and not bad:
        oldest = time.time() - ORPHAN_SECONDS
        for digest in list(blobs.digests()):
            if digest not in used and not keep(digest) and _older(blobs.path(digest), oldest):
                try:
                    blobs.delete(digest)
                    removed += 1
                except StoreError as error:  # a read-only store is no reason not to start
                    logger.warning("an unused blob stays: %s", error.message)
        manifests.remove_empty_folders()
    return Swept(tuple(put_aside), removed, leftovers)


def _remove_half_written(manifests: Manifests) -> int:
    """Manifests that a power cut left under their temporary names."""
    oldest, removed = time.time() - ORPHAN_SECONDS, 0
    for path in list(manifests.strays()):
        if TEMPORARY.fullmatch(path.name) and _older(path, oldest):
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def _older(path: Path, moment: float) -> bool:
    try:
        return os.lstat(path).st_mtime < moment
    except OSError:
        return False


def _rename_old_spelling(blobs: Blobs) -> None:
    """Ollama once wrote ``sha256:<hex>``, which some file systems cannot."""
    with suppress(FileNotFoundError):
        for name in os.listdir(blobs.folder):
            if name.startswith("sha256:"):
                with suppress(InvalidRequest, OSError):
                    target = blobs.path(Digest.parse(name))
                    if not target.exists():
                        os.rename(blobs.folder / name, target)
