"""Models as one file or one folder to carry away: an OCI image layout, in a folder or in an uncompressed tar.

Everything in it is content-addressed and hashed on the way out and in. A tar is read member by member, never
extracted: names in it are looked up, not followed. Works beside a running server.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from modelfiles.names import ModelName
from server.errors import InvalidRequest, ModelNotFound, StoreError
from server.store import arrivals, manifests
from server.store.blobs import CHUNK
from server.store.digests import Digest
from server.store.disk import disk_errors, fsync_folder, open_regular
from server.store.library import Library, parse_name
from server.store.manifests import MANIFEST_TYPE, MAX_BYTES, Manifest

REF_NAME = "org.opencontainers.image.ref.name"
VERSION = b'{"imageLayoutVersion": "1.0.0"}'
MAX_MEMBERS = 100_000
Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)`` in bytes."""


def member(digest: Digest) -> str:
    """The place of a blob in a layout."""
    return f"blobs/sha256/{digest.hex}"


# -- out --------------------------------------------------------------------------------------------------


def export(library: Library, names: list[str], out: Path, progress: Progress) -> None:
    """Write models to ``out``: a tar when it ends in ``.tar``, else a folder. Neither may be there. StoreError."""
    if os.path.lexists(out):
        raise InvalidRequest(f"{out} exists; choose another place or remove it")
    found = [_manifest(library, parse_name(name), name) for name in names]
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    with disk_errors("writing the export"):
        try:
            if out.suffix == ".tar":
                with tarfile.open(temporary, "x:") as tar:
                    _write(library, found, _TarOut(tar).add, progress)
                _fsync(temporary)
            else:
                _write(library, found, _FolderOut(temporary).add, progress)
            temporary.rename(out)
            fsync_folder(out.absolute().parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):
                temporary.unlink()


def _manifest(library: Library, name: ModelName, given: str) -> tuple[ModelName, bytes, Manifest]:
    entry = library.manifests.find(name)
    if entry is None:
        raise ModelNotFound(f"model '{given}' not found")
    with disk_errors("reading the manifest"), open_regular(entry.path) as file:
        data = file.read(MAX_BYTES + 1)
    return entry.name, data, manifests.parse(data)


Add = Callable[[str, IO[bytes], int], None]


def _write(library: Library, found: list[tuple[ModelName, bytes, Manifest]], add: Add, progress: Progress) -> None:
    index = [
        {
            "mediaType": MANIFEST_TYPE,
            "digest": str(Digest.of(data)),
            "size": len(data),
            "annotations": {REF_NAME: n.full()},
        }
        for n, data, _ in found
    ]
    document = json.dumps({"schemaVersion": 2, "manifests": index}, indent=1).encode()
    for name, data in [
        ("oci-layout", VERSION),
        ("index.json", document),
        *((member(Digest.of(d)), d) for _, d, _ in found),
    ]:
        add(name, io.BytesIO(data), len(data))
    blobs = {digest: size for _, _, manifest in found for digest, size in manifest.blobs().items()}
    for digest, size in blobs.items():
        with library.blobs.open(digest) as file:
            add(member(digest), Hashing(file, digest, size, progress), size)  # type: ignore[arg-type]


class Hashing:
    """Reads a blob through to its end, and says so when it is not what its name says."""

    def __init__(self, file: IO[bytes], digest: Digest, size: int, progress: Progress) -> None:
        self._file, self._digest, self._size, self._progress = file, digest, size, progress
        self._hash = hashlib.sha256()
        self._done = 0

    def read(self, size: int = CHUNK) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self._done += len(data)
        self._progress(f"writing {self._digest.hex[:12]}", self._done, self._size)
        if self._done >= self._size and (self._done > self._size or self._hash.hexdigest() != self._digest.hex):
            raise StoreError(f"blob {self._digest} is damaged; see `llamada fsck`")
        return data


class _TarOut:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, file: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        self._tar.addfile(info, file)


class _FolderOut:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True)

    def add(self, name: str, file: IO[bytes], size: int) -> None:
        with (self._folder / name).open("xb") as out:
            shutil.copyfileobj(file, out, CHUNK)
            out.flush()
            os.fsync(out.fileno())
        if (self._folder / name).stat().st_size != size:
            raise StoreError(f"{name} is shorter than its manifest says; see `llamada fsck`")


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# -- in ---------------------------------------------------------------------------------------------------


def import_layout(library: Library, path: Path, rename: str, progress: Progress) -> list[str]:
    """Install what a layout holds; the names. ``rename``: the name to give where there is one model only."""
    with _opened(path) as layout:
        descriptors = _descriptors(layout.small("index.json", MAX_BYTES))
        if rename and len(descriptors) != 1:
            raise InvalidRequest(f"{path.name} holds {len(descriptors)} models; they keep their names")
        return [_install(library, layout, raw, rename, progress) for raw in descriptors]


def is_layout(path: Path) -> bool:
    return (path / "index.json").is_file() if path.is_dir() else path.suffix == ".tar"


def _descriptors(data: bytes) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(data)["manifests"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(raw, dict) for raw in found):
        raise InvalidRequest("index.json lists no models: this is no OCI image layout")
    return found


def _install(library: Library, layout: _Layout, descriptor: Mapping[str, Any], rename: str, progress: Progress) -> str:
    digest = Digest.parse(descriptor.get("digest"))
    annotations = descriptor.get("annotations")
    said = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    if not rename and not isinstance(said, str):
        raise InvalidRequest("the layout does not say what the model is called; give a name")
    name = parse_name(rename or str(said))
    data = layout.small(member(digest), MAX_BYTES)
    if Digest.of(data) != digest:
        raise InvalidRequest(f"the manifest of {name.short()} is damaged: it has another digest")
    manifest = manifests.parse(data)
    with library.pin(manifest.blobs()):
        for blob, size in manifest.blobs().items():
            if library.blobs.size(blob) != size:
                layout.bring(library, blob, size, progress)
        arrivals.check(library, manifest)
        library.install(name, data, manifest)
    return name.short()


class _Layout:
    """Members by name, in a folder or a tar."""

    def __init__(self, find: Callable[[str], Path | IO[bytes]]) -> None:
        self._find = find

    def small(self, name: str, limit: int) -> bytes:
        found = self._find(name)
        with open_regular(found) if isinstance(found, Path) else found as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InvalidRequest(f"{name} is over {limit} bytes")
        return data

    def bring(self, library: Library, digest: Digest, size: int, progress: Progress) -> None:
        """The blob into the store; by reflink from a folder where the file system can."""
        found = self._find(member(digest))
        if isinstance(found, Path):
            progress(f"reading {digest.hex[:12]}", 0, size)
            library.blobs.add_file(found, expected=digest)
            progress(f"reading {digest.hex[:12]}", size, size)
            return
        with found, library.blobs.writer(size) as writer:
            while data := found.read(CHUNK):
                writer.write(data)
                progress(f"reading {digest.hex[:12]}", writer.size, size)
            writer.commit(digest, keep_other=False)


@contextmanager
def _opened(path: Path) -> Iterator[_Layout]:
    with disk_errors("reading the import"):
        if path.is_dir():
            yield _Layout(lambda name: _in_folder(path, name))
            return
        try:
            with tarfile.open(path, "r:") as tar:
                members = _members(tar)
                yield _Layout(lambda name: _in_tar(tar, members, name))
        except tarfile.TarError as error:
            raise InvalidRequest(f"{path.name} is no uncompressed tar of models: {error}") from error


def _in_folder(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file() or path.is_symlink():
        raise InvalidRequest(f"{name} is missing in the layout")
    return path


def _members(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for info in tar:
        if len(found) >= MAX_MEMBERS:
            raise InvalidRequest("the tar has too many members")
        if info.isreg():
            found.setdefault(info.name.removeprefix("./"), info)
    return found


def _in_tar(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    file = tar.extractfile(members[name]) if name in members else None
    if file is None:
        raise InvalidRequest(f"{name} is missing in the tar")
    return file
