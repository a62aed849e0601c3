"""Manifests: which blobs a name stands for. One JSON file per name, in Ollama's own layout and bytes.

Reading is typed and bounded and ignores foreign fields; writing is atomic. Knows the tree below ``manifests/``
and nothing of what the blobs hold. Lookups ignore case; the spelling on disk is the one that counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelfiles.errors import InvalidName
from modelfiles.names import ModelName
from server.errors import InvalidRequest, StoreError
from server.store import gojson
from server.store.digests import Digest
from server.store.disk import disk_errors, fsync_folder, make_folders, open_regular, write_atomic

MAX_BYTES = 4 * 1024 * 1024
MAX_LAYERS = 4096
MAX_BLOB = 1 << 50
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.ollama.image."
CORRUPT = ".corrupt"


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model. ``source``: the name of the model or file that it came from ("from")."""

    media_type: str
    digest: Digest
    size: int
    source: str = ""
    name: str = ""

    @property
    def kind(self) -> str:
        """``model``, ``template`` …; the whole media type where it is not Ollama's."""
        return self.media_type.removeprefix(LAYER_TYPE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """``digest``: hex SHA-256 of the file's bytes, the model's id."""

    config: Layer
    layers: tuple[Layer, ...]
    digest: str

    @property
    def size(self) -> int:
        return self.config.size + sum(layer.size for layer in self.layers)

    def of_kind(self, *kinds: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.kind in kinds)

    def blobs(self) -> dict[Digest, int]:
        """Every blob that must be there, with its size."""
        return {layer.digest: layer.size for layer in (*self.layers, self.config)}


def parse(data: bytes) -> Manifest:
    """StoreError unless it is a manifest that every later step can trust."""
    if len(data) > MAX_BYTES:
        raise StoreError(f"manifest is over {MAX_BYTES} bytes")
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        raise StoreError("manifest is not JSON") from None
    layers = raw.get("layers") if isinstance(raw, dict) else {}
    layers = [] if layers is None else layers
    if not isinstance(layers, list):
        raise StoreError("manifest is not an object with layers")
    if len(layers) > MAX_LAYERS:
        raise StoreError(f"manifest has over {MAX_LAYERS} layers")
    return Manifest(_layer(raw.get("config")), tuple(map(_layer, layers)), hashlib.sha256(data).hexdigest())


def _layer(raw: Any) -> Layer:
    if not isinstance(raw, dict):
        raise StoreError("manifest holds a layer that is no object")
    texts = ["" if raw.get(key) is None else raw[key] for key in ("mediaType", "from", "name")]
    size = raw.get("size")
    if not all(isinstance(text, str) for text in texts) or isinstance(size, bool) or not isinstance(size, int):
        raise StoreError("manifest holds a layer with a field of the wrong type")
    if not 0 <= size <= MAX_BLOB:
        raise StoreError("manifest holds a layer with an impossible size")
    try:
        return Layer(texts[0], Digest.parse(raw.get("digest")), size, texts[1], texts[2])
    except InvalidRequest as error:
        raise StoreError(f"manifest holds a layer with an {error.message}") from None


def encode(config: Layer, layers: tuple[Layer, ...]) -> bytes:
    """The bytes that Ollama would write for these layers."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _raw(config),
        "layers": [_raw(layer) for layer in layers],
    }
    return (gojson.dumps(document) + "\n").encode()


def _raw(layer: Layer) -> Mapping[str, Any]:
    raw: dict[str, Any] = {"mediaType": layer.media_type, "digest": str(layer.digest), "size": layer.size}
    if layer.source:
        raw["from"] = layer.source
    if layer.name:
        raw["name"] = layer.name
    return raw


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest file as the tree walk sees it, unread. ``stamp`` changes whenever the file does."""

    name: ModelName
    path: Path
    mtime_ns: int
    stamp: tuple[int, int, int]


def entry_of(name: ModelName, path: Path) -> Entry | None:
    """None when there is no regular file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Entry(name, path, status.st_mtime_ns, (status.st_mtime_ns, status.st_size, status.st_ino))


class Manifests:
    """The ``manifests`` folder of one models directory."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "manifests"

    def path(self, name: ModelName) -> Path:
        return self.folder.joinpath(*name.parts())

    def find(self, name: ModelName) -> Entry | None:
        """The installed manifest of this name in whatever case it was spelled."""
        if (exact := entry_of(name, self.path(name))) is not None:
            return exact
        return next((entry for entry in self.entries(name) if entry.name.key == name.key), None)

    def spelling(self, name: ModelName) -> ModelName:
        """The name to write to: an installed spelling if there is one, and known parents' spelling otherwise."""
        folder, parts = self.folder, []
        for part in name.parts():
            taken = next((n for n in _names(folder) if n.lower() == part.lower()), part)
            parts.append(part if (folder / part).exists() else taken)
            folder = folder / parts[-1]
        return ModelName(*parts)

    def read(self, entry: Entry) -> Manifest:
        """StoreError when it cannot be read or trusted."""
        with disk_errors("reading the manifest"), open_regular(entry.path) as file:
            data = file.read(MAX_BYTES + 1)
        return parse(data)

    def write(self, name: ModelName, config: Layer, layers: tuple[Layer, ...]) -> None:
        self.write_bytes(name, encode(config, layers))

    def write_bytes(self, name: ModelName, data: bytes) -> None:
        """A pulled manifest is stored byte for byte: its digest is the model's id."""
        with disk_errors(f"writing the manifest of {name.short()}"):
            path = self.path(name)
            make_folders(path.parent)
            write_atomic(path, data)

    def entries(self, like: ModelName | None = None) -> Iterator[Entry]:
        """Every manifest file under a valid name (``like``: only those that differ from it in case at most)."""
        wanted = like.key if like else (None,) * 4
        for names, path in _walk(self.folder, wanted):
            with suppress(InvalidName):
                if (entry := entry_of(ModelName(*names), path)) is not None:
                    yield entry

    def strays(self) -> Iterator[Path]:
        """What lies below ``manifests/`` and is no manifest of a valid name: wrong depth, wrong name, no file."""
        good = {entry.path for entry in self.entries()}
        for folder, folders, files in os.walk(self.folder):
            if Path(folder) == self.folder:
                folders[:] = [f for f in folders if not f.startswith(".")]
                files[:] = [f for f in files if not f.startswith(".")]
            yield from (path for name in files if (path := Path(folder, name)) not in good)
            yield from (path for name in folders if (path := Path(folder, name)).is_symlink())

    def delete(self, entry: Entry) -> None:
        with disk_errors(f"removing the manifest of {entry.name.short()}"):
            with suppress(FileNotFoundError):
                entry.path.unlink()
            if entry.path.parent.is_dir():
                fsync_folder(entry.path.parent)
            self._remove_empty(entry.path.parent)

    def quarantine(self, path: Path) -> Path:
        """Move a bad file to ``manifests/.corrupt/``, where no listing looks. Returns its new place."""
        with disk_errors("putting a bad manifest aside"):
            folder = self.folder / CORRUPT
            make_folders(folder)
            base = "__".join(path.relative_to(self.folder).parts)
            target = next(t for n in range(10_000) if not os.path.lexists(t := folder / (f"{base}.{n}" if n else base)))
            os.rename(path, target)
            fsync_folder(folder)
            self._remove_empty(path.parent)
        return target

    def remove_empty_folders(self) -> None:
        for folder, _, _ in os.walk(self.folder, topdown=False):
            if Path(folder) != self.folder:
                with suppress(OSError):
                    os.rmdir(folder)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.folder and self.folder in folder.parents:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _walk(folder: Path, wanted: tuple[str | None, ...]) -> Iterator[tuple[list[str], Path]]:
    """Paths ``len(wanted)`` levels down whose parts equal the wanted ones in lower case (None: any)."""
    for name in _names(folder):
        if name.startswith(".") or (wanted[0] is not None and name.lower() != wanted[0]):
            continue
        path = folder / name
        if len(wanted) == 1:
            yield [name], path
        elif path.is_dir() and not path.is_symlink():
            for names, leaf in _walk(path, wanted[1:]):
                yield [name, *names], leaf
