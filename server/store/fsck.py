"""Is the store sound? Checks every manifest and every byte of every blob without a server; repairs by putting aside.

``repair`` never deletes good data and never guesses: what is bad is moved to ``manifests/.corrupt`` or
``blobs/.corrupt``, and each problem says what to type next.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.errors import InvalidRequest, ServerError, StoreError
from server.store import record as records
from server.store.blobs import CHUNK, INCOMING, Blobs
from server.store.digests import Digest
from server.store.disk import make_folders, open_regular
from server.store.manifests import CORRUPT, Entry, Manifest, Manifests

Progress = Callable[[int, int], None]
"""``progress(done, total)`` in bytes of blobs."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``what``: a model's name or a file below the models directory. ``harmless``: nothing is lost by it."""

    what: str
    trouble: str
    advice: str = ""
    repaired: str = ""
    harmless: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    models: int
    blobs: int
    nbytes: int
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """No model is damaged, now that repairs are done or not."""
        return all(problem.harmless for problem in self.problems)


def check(root: Path, repair: bool = False, progress: Progress | None = None) -> Report:
    """``root``: the models directory. Takes as long as reading all blobs takes."""
    return _Check(root, repair, progress or (lambda done, total: None)).run()


class _Check:
    def __init__(self, root: Path, repair: bool, progress: Progress) -> None:
        self._blobs = Blobs(root)
        self._manifests = Manifests(root)
        self._repair = repair
        self._progress = progress
        self._problems: list[Problem] = []
        self._readable: list[tuple[Entry, Manifest]] = []
        self._bad: dict[Digest, str] = {}

    def run(self) -> Report:
        self._check_manifests()
        self._check_strays()
        present = self._check_blob_folder()
        total = self._check_contents(present)
        for entry, manifest in self._readable:
            self._check_model(entry, manifest, present)
        self._check_orphans(present)
        return Report(len(self._readable), len(present), total, tuple(self._problems))

    # -- manifests ----------------------------------------------------------------------------------------

    def _check_manifests(self) -> None:
        for entry in self._manifests.entries():
            try:
                self._readable.append((entry, self._manifests.read(entry)))
            except StoreError as error:
                name = entry.name.short()
                empty = entry.stamp[1] == 0
                trouble = "the manifest is empty, as after a power cut" if empty else error.message
                self._found(Problem(name, trouble, _again(name), self._aside(entry.path)))

    def _check_strays(self) -> None:
        for path in list(self._manifests.strays()):
            what = path.relative_to(self._manifests.folder.parent).as_posix()
            trouble = "a link, not a manifest" if path.is_symlink() else "no manifest has such a name"
            advice = "" if self._repair else "`llamada fsck --repair` moves it aside"
            self._found(Problem(what, trouble, advice, self._aside(path), harmless=True))

    def _aside(self, path: Path) -> str:
        if not self._repair:
            return ""
        return f"moved to manifests/{CORRUPT}/{self._manifests.quarantine(path).name}"

    # -- blobs --------------------------------------------------------------------------------------------

    def _check_blob_folder(self) -> dict[Digest, os.stat_result]:
        """The blobs that are there as regular files under right names."""
        present: dict[Digest, os.stat_result] = {}
        names = sorted(os.listdir(self._blobs.folder)) if self._blobs.folder.is_dir() else []
        for name in names:
            path = self._blobs.folder / name
            if name in (INCOMING, CORRUPT):
                continue
            if "-partial" in name:
                self._found(Problem(f"blobs/{name}", "an unfinished download", "pulling the model again continues it",
                                    harmless=True))  # fmt: skip
                continue
            status = os.lstat(path)
            digest = _digest_of(name)
            if digest is None:
                self._found(Problem(f"blobs/{name}", "no blob has such a name", "", self._blob_aside(path), True))
            elif not stat.S_ISREG(status.st_mode):
                self._bad[digest] = "is not a regular file"
                self._found(Problem(f"blobs/{name}", "not a regular file", "", self._blob_aside(path), True))
            else:
                present[digest] = status
        self._check_incoming()
        return present

    def _check_incoming(self) -> None:
        left = len(list(self._blobs.incoming.iterdir())) if self._blobs.incoming.is_dir() else 0
        if left:
            gone = self._blobs.sweep_incoming() if self._repair else 0
            self._found(Problem(f"blobs/{INCOMING}", f"{left} files of running or broken-off writers",
                                "" if self._repair else "the next start of the server removes what nobody writes",
                                f"{gone} removed" if gone else "", harmless=True))  # fmt: skip

    def _check_contents(self, present: dict[Digest, os.stat_result]) -> int:
        total = sum(status.st_size for status in present.values())
        done = 0
        for digest in sorted(present):
            self._progress(done, total)
            try:
                found = self._hash(digest, done, total)
            except OSError as error:
                self._bad[digest] = f"cannot be read: {(error.strerror or 'input/output error').lower()}"
                self._found(Problem(f"blobs/{digest.file_name}", self._bad[digest], "check the disk"))
            else:
                if found != digest.hex:
                    self._bad[digest] = "is damaged"
                    self._found(Problem(f"blobs/{digest.file_name}", f"its content has the digest sha256:{found}", "",
                                        self._blob_aside(self._blobs.path(digest))))  # fmt: skip
            done += present[digest].st_size
        self._progress(total, total)
        return total

    def _hash(self, digest: Digest, done: int, total: int) -> str:
        checksum = hashlib.sha256()
        with open_regular(self._blobs.path(digest)) as file:
            while chunk := file.read(CHUNK):
                checksum.update(chunk)
                done += len(chunk)
                if done % (64 * CHUNK) < CHUNK:
                    self._progress(done, total)
        return checksum.hexdigest()

    def _blob_aside(self, path: Path) -> str:
        if not self._repair:
            return ""
        folder = self._blobs.folder / CORRUPT
        make_folders(folder)
        target = folder / path.name
        number = 0
        while os.path.lexists(target):
            number += 1
            target = folder / f"{path.name}.{number}"
        os.rename(path, target)
        return f"moved to blobs/{CORRUPT}/{target.name}"

    # -- models -------------------------------------------------------------------------------------------

    def _check_model(self, entry: Entry, manifest: Manifest, present: dict[Digest, os.stat_result]) -> None:
        name = entry.name.short()
        sound = True
        for digest, size in manifest.blobs().items():
            trouble = self._bad.get(digest)
            if trouble is None and digest not in present:
                trouble = "is missing"
            elif trouble is None and present[digest].st_size != size:
                trouble = f"has {present[digest].st_size} bytes instead of {size}"
            if trouble:
                sound = False
                self._found(Problem(name, f"blob {digest} {trouble}", _again(name)))
        if sound:
            with suppress(StoreError):
                self._check_meaning(entry, manifest)

    def _check_meaning(self, entry: Entry, manifest: Manifest) -> None:
        """Right bytes may still be nonsense: a config that is no JSON, weights that nobody should load."""
        try:
            read = records.read(entry, manifest, self._blobs, lambda d: records.read_header(self._blobs, d), None)
            if not read.config.remote and read.problem is not None:
                raise read.problem
        except ServerError as error:
            self._found(Problem(entry.name.short(), error.message, _again(entry.name.short())))

    def _check_orphans(self, present: dict[Digest, os.stat_result]) -> None:
        used = {digest for _, manifest in self._readable for digest in manifest.blobs()}
        orphans = [digest for digest in present if digest not in used and digest not in self._bad]
        if orphans:
            nbytes = sum(present[digest].st_size for digest in orphans)
            self._found(Problem("blobs", f"{len(orphans)} blobs ({nbytes} bytes) belong to no model",
                                "the server removes them at its start once they are over an hour old",
                                harmless=True))  # fmt: skip

    def _found(self, problem: Problem) -> None:
        self._problems.append(problem)


def _again(name: str) -> str:
    return f"`llamada pull {name}` or create it again; `llamada rm {name}` if you do not need it"


def _digest_of(name: str) -> Digest | None:
    if not name.startswith("sha256-"):
        return None
    try:
        return Digest.parse(name)
    except InvalidRequest:
        return None
