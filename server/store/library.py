"""The models on this disk, by name: resolve, list, show, copy, delete.

Works on a models directory that real Ollama may use at the same time. What was read is kept until the manifest
file changes, so that ``resolve`` on the hot path is one ``lstat``. All methods are synchronous and thread-safe.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelfiles.errors import InvalidName
from modelfiles.gguf import Header
from modelfiles.names import ModelName
from server.errors import InvalidRequest, ModelNotFound, StoreError
from server.store import record as records
from server.store import show as answers
from server.store.blobs import Blobs
from server.store.digests import Digest
from server.store.disk import disk_errors, open_regular
from server.store.manifests import MAX_BYTES, Entry, Layer, Manifest, Manifests, entry_of
from server.store.prune import Keep, Swept, prune, sweep
from server.store.record import Record
from server.types import ModelSpec

logger = logging.getLogger(__name__)

MAX_CACHED = 4096


def nothing_in_use(_: Digest) -> bool:
    return False


def parse_name(text: str) -> ModelName:
    """InvalidRequest with the text that generate, chat, pull and create answer."""
    try:
        return ModelName.parse(text)
    except InvalidName as error:
        raise InvalidRequest(str(error)) from None


class Library:
    """``keep(digest)``: a loaded worker holds this blob. ``go_template``: OLLAMA_GO_TEMPLATE where it was set.

    ``prune``: whether replaced and deleted layers are removed (not under OLLAMA_NOPRUNE).
    """

    def __init__(
        self, root: Path, *, keep: Keep = nothing_in_use, go_template: bool | None = None, prune: bool = True
    ) -> None:
        self.root = root
        self.blobs = Blobs(root)
        self.manifests = Manifests(root)
        self.keep = keep
        self._go_template = go_template
        self._prune = prune
        self._lock = threading.RLock()
        self._pins: Counter[Digest] = Counter()
        self._held: set[Digest] = set()
        self._specs: dict[str, tuple[Entry, ModelSpec]] = {}
        self._records: dict[Path, Record] = {}
        self._headers: dict[Digest, Header] = {}
        self._complained: set[tuple[Path, int]] = set()

    # -- reading ------------------------------------------------------------------------------------------

    def resolve(self, name: str) -> ModelSpec:
        """What to load for this name. ModelNotFound, InvalidRequest, or what is wrong with its files."""
        cached = self._specs.get(name)
        if cached is not None and _unchanged(cached[0]):
            return cached[1]
        record = self.record(name, f"model '{name}' not found")
        spec = records.spec_of(record, self.blobs, self._go_template)
        _remember(self._specs, name, (record.entry, spec))
        return spec

    def record(self, name: str, not_found: str) -> Record:
        record = self.find(parse_name(name))
        if record is None:
            raise ModelNotFound(not_found)
        return record

    def find(self, name: ModelName) -> Record | None:
        entry = self.manifests.find(name)
        while entry is not None:
            try:
                return self._read(entry)
            except StoreError as error:
                if _unchanged(entry):
                    short = entry.name.short()
                    raise StoreError(
                        f"model '{short}' is damaged: {error.message}; pull or create it again, or remove it with "
                        f"`llamada rm {short}`"
                    ) from error
            entry = self.manifests.find(name)  # it was deleted or replaced while being read
        return None

    def header(self, digest: Digest) -> Header:
        """The checked header of a GGUF blob. StoreError."""
        header = self._headers.get(digest)
        if header is None:
            header = records.read_header(self.blobs, digest)
            _remember(self._headers, digest, header)
        return header

    def models(self) -> list[Record]:
        """Every readable model, newest first. A bad one is logged once and left out."""
        found = []
        for entry in self.manifests.entries():
            try:
                found.append(self._read(entry))
            except StoreError as error:
                if _unchanged(entry) and (entry.path, entry.mtime_ns) not in self._complained:
                    self._complained.add((entry.path, entry.mtime_ns))
                    logger.warning("%s is not listed: %s", entry.name.short(), error.message)
        return sorted(found, key=lambda record: -record.entry.mtime_ns)

    def tags(self) -> list[dict[str, Any]]:
        """The ``models`` of ``/api/tags``."""
        return [answers.tag(record) for record in self.models()]

    def show(
        self, name: str, *, verbose: bool = False, system: str = "", options: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer of ``/api/show``."""
        if not name:
            raise InvalidRequest("model is required")
        record = self.record(name, f"model '{parse_name(name).short()}' not found")
        if record.problem is not None and not record.config.remote:
            raise record.problem
        manifest = record.manifest
        licenses = [
            self.blobs.read(layer.digest, records.MAX_TEXT).decode("utf-8", "replace")
            for layer in manifest.of_kind("license")
        ]
        kinds = ("model", "adapter", "projector", "draft")
        paths = {kind: [self.blobs.path(layer.digest) for layer in manifest.of_kind(kind)] for kind in kinds}
        projectors = manifest.of_kind("projector")
        return answers.show(
            record,
            licenses,
            paths,
            self.header(projectors[0].digest) if projectors else None,
            verbose=verbose,
            system=system,
            overlay=options or {},
        )

    def _read(self, entry: Entry) -> Record:
        known = self._records.get(entry.path)
        if known is not None and known.entry.stamp == entry.stamp:
            return known
        manifest = self.manifests.read(entry)
        record = records.read(entry, manifest, self.blobs, self.header, self._go_template)
        if record.problem is None or record.config.remote:
            _remember(self._records, entry.path, record)
        return record

    # -- changing -----------------------------------------------------------------------------------------

    def copy(self, source: str, destination: str) -> None:
        origin, target = _named("source", source), _named("destination", destination)
        with self._lock:
            entry = self.manifests.find(origin)
            if entry is None:
                raise ModelNotFound(f"model {answers.go_quote(source)} not found")
            if origin.key == target.key:
                return
            manifest = self.manifests.read(entry)
            with disk_errors("copying the manifest"), open_regular(entry.path) as file:
                data = file.read(MAX_BYTES + 1)
            with self.pin(manifest.blobs()), self._replacing(target) as spelled:
                self.manifests.write_bytes(spelled, data)

    def delete(self, name: str) -> None:
        """The name goes, then every blob that no other model and no worker needs."""
        if not name:
            raise InvalidRequest("model is required")
        try:
            parsed = ModelName.parse(name)
        except InvalidName:
            raise InvalidRequest(f"name {answers.go_quote(name)} is invalid") from None
        with self._lock:
            entry = self.manifests.find(parsed)
            if entry is None:
                raise ModelNotFound(f"model '{name}' not found")
            old = self._blobs_of(entry)
            self.manifests.delete(entry)
            self.forget(old)

    def write(self, name: ModelName, config: Layer, layers: tuple[Layer, ...]) -> None:
        """Make ``name`` stand for these layers; what the old ones alone needed goes."""
        with self._lock, self._replacing(name) as spelled:
            for layer in (*layers, config):
                if self.blobs.size(layer.digest) != layer.size:
                    raise StoreError(f"blob {layer.digest} is missing or has the wrong size; create the model again")
            self.manifests.write(spelled, config, layers)

    def install(self, name: ModelName, data: bytes, manifest: Manifest) -> set[Digest]:
        """Make ``name`` stand for a pulled manifest, byte for byte. What the old one alone named, to be forgotten."""
        with self._lock:
            spelled = self.manifests.spelling(name)
            entry = self.manifests.find(spelled)
            old = self._blobs_of(entry) if entry is not None else []
            self.manifests.write_bytes(spelled, data)
            return set(old) - set(manifest.blobs()) if self._prune else set()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """While open, no model of this library is changed by another thread. For a few disk reads, not for work."""
        with self._lock:
            yield

    @contextmanager
    def pin(self, digests: Iterable[Digest]) -> Iterator[None]:
        """While open, these blobs are not removed, whether or not a manifest names them yet."""
        taken = list(digests)
        with self._lock:
            self._pins.update(taken)
        try:
            yield
        finally:
            with self._lock:
                self._pins.subtract(taken)
                self._pins += Counter()  # drops the zeros
                if not self._held.isdisjoint(taken):
                    self.release()

    def forget(self, digests: Iterable[Digest]) -> None:
        """Remove those blobs that nobody needs any more. Those that a worker holds go at ``release``."""
        with self._lock:
            if self._prune:
                self._held |= prune(self.manifests, self.blobs, digests, self._needed)

    def release(self) -> None:
        """To be called after a worker was unloaded: blobs deleted while it ran may go now."""
        with self._lock:
            held, self._held = self._held, set()
            if held:
                self.forget(held)

    def sweep(self) -> Swept:
        """To be called once at start-up, before the first request."""
        with self._lock:
            return sweep(self.manifests, self.blobs, keep=self._needed, prune_orphans=self._prune)

    def _needed(self, digest: Digest) -> bool:
        return digest in self._pins or self.keep(digest)

    @contextmanager
    def _replacing(self, name: ModelName) -> Iterator[ModelName]:
        """The spelling to write to; afterwards the blobs of the model that stood there are forgotten."""
        spelled = self.manifests.spelling(name)
        entry = self.manifests.find(spelled)
        old = self._blobs_of(entry) if entry is not None else []
        yield spelled
        self.forget(old)

    def _blobs_of(self, entry: Entry) -> list[Digest]:
        try:
            return list(self.manifests.read(entry).blobs())
        except StoreError as error:
            logger.warning("%s: its blobs stay until `llamada fsck --repair`: %s", entry.name.short(), error.message)
            return []


def _named(role: str, text: str) -> ModelName:
    try:
        return ModelName.parse(text)
    except InvalidName:
        raise InvalidRequest(f"{role} {answers.go_quote(text)} is invalid") from None


def _unchanged(entry: Entry) -> bool:
    now = entry_of(entry.name, entry.path)
    return now is not None and now.stamp == entry.stamp


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= MAX_CACHED:
        cache.clear()
    cache[key] = value
