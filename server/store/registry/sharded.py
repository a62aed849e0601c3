"""Split GGUFs of Hugging Face, which its registry refuses: found in the repository's list of files, kept as they are.

Each shard is a ``model`` layer of its own under its file's name; llama.cpp loads them together. The digest of a large
file is part of the list, so that shards are verified like any blob. Template, parameters and system prompt are the
repository's files of those names, as for whole GGUFs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from yarl import URL

from modelfiles import gguf
from modelfiles.errors import GGUFError
from modelfiles.gguf_types import SplitName
from server.errors import InvalidRequest, ServerError, StoreError
from server.store import manifests, model_config
from server.store.digests import Digest
from server.store.library import Library
from server.store.manifests import CONFIG_TYPE, LAYER_TYPE, MAX_BLOB, Layer, Manifest
from server.store.model_config import ModelConfig
from server.store.record import MAX_TEXT
from server.store.registry.remote import Remote, StatusError
from server.store.registry.urls import parse_url
from server.store.sources import read

SIGN = "sharded GGUF"
"""What Hugging Face's registry says, with status 400, of a tag that is one."""
PREFERRED = "q4_k_m"
MAX_PAGE, MAX_PAGES = 8 * 1024 * 1024, 20
NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="next"')
QUANTIZATION = re.compile(r"(?:i?q|tq|b?f|fp|mxfp|nvfp)[0-9]")
TEXTS = ("template", "system", "params")
API_HOSTS = {"hf.co": "huggingface.co"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A large file of a repository."""

    path: str
    digest: Digest
    size: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Sharded:
    """An offer of shards. ``base``: the repository; ``texts`` by kind of layer."""

    remote: Remote
    base: URL
    shards: tuple[Listed, ...]
    projector: Listed | None
    texts: dict[str, bytes]

    @property
    def layers(self) -> tuple[Layer, ...]:
        found = [Layer(f"{LAYER_TYPE}model", f.digest, f.size, name=f.name) for f in self.shards]
        if self.projector is not None:
            found.append(Layer(f"{LAYER_TYPE}projector", self.projector.digest, self.projector.size))
        return tuple(found)

    def blob(self, layer: Layer) -> URL:
        files = (*self.shards, *([self.projector] if self.projector else []))
        path = next(file.path for file in files if file.digest == layer.digest)
        return self.base / "resolve" / "main" / path

    def finish(self, library: Library) -> tuple[bytes, Manifest]:
        """The manifest, which is always the same for the same files."""
        try:
            header = gguf.join([read(library.blobs, file.digest) for file in self.shards])
        except (GGUFError, InvalidRequest) as error:
            raise StoreError(f"the shards cannot be used together: {error}") from error
        texts = []
        for kind in (kind for kind in TEXTS if kind in self.texts):
            digest, _ = library.blobs.add_bytes(self.texts[kind])
            texts.append(Layer(LAYER_TYPE + kind, digest, len(self.texts[kind])))
        family = header.architecture
        config = model_config.encode(ModelConfig("gguf", family, (family,), header.parameter_size, header.file_type))
        digest, _ = library.blobs.add_bytes(config)
        data = manifests.encode(Layer(CONFIG_TYPE, digest, len(config)), (*self.layers, *texts))
        return data, manifests.parse(data)


async def find(remote: Remote, tag: str) -> Sharded:
    """What the repository has under ``tag``: a quantization, a file's name, a folder. ServerError."""
    remote = remote.at(API_HOSTS.get(remote.origin.host or "", ""))
    files = await _list(remote)
    shards = choose(files, tag)
    base = remote.origin / remote.repository
    texts = {kind: data for kind in TEXTS if (data := await _text(remote, base / "resolve" / "main" / kind))}
    if "params" in texts and not _is_object(texts["params"]):
        raise ServerError("the repository's params are no JSON object")
    return Sharded(remote, base, shards, _projector(files), texts)


def choose(files: Iterable[Listed], tag: str) -> tuple[Listed, ...]:
    """The complete set of shards that ``tag`` means; for ``latest`` Q4_K_M, else the first. ServerError."""
    groups: dict[tuple[str, str, int], dict[int, Listed]] = {}
    for file in files:
        if split := SplitName.parse(file.name):
            folder = file.path.rpartition("/")[0]
            groups.setdefault((folder, split.prefix, split.count), {})[split.index] = file
    whole = {key: group for key, group in sorted(groups.items()) if len(group) == key[2]}
    wanted = PREFERRED if tag == "latest" else tag.lower().removesuffix(".gguf")
    fitting = [key for key in whole if _means(wanted, key, whole[key])]
    if not fitting and tag == "latest":
        fitting = list(whole)
    if not fitting:
        raise ServerError(f'the repository has no complete split GGUF that is called "{tag}"')
    group = whole[fitting[0]]
    return tuple(group[index] for index in sorted(group))


def _means(wanted: str, key: tuple[str, str, int], group: dict[int, Listed]) -> bool:
    folder, prefix, _ = (str(part).lower() for part in key)
    named = {file.name.lower().removesuffix(".gguf") for file in group.values()}
    before = "[-._]" if QUANTIZATION.match(wanted) else "[-.]"  # K_M alone is no name, though Q4_K_M ends in it
    return wanted in {prefix, folder, folder.rpartition("/")[2], *named} or bool(
        re.search(f"{before}{re.escape(wanted)}$", prefix)
    )


def _projector(files: Iterable[Listed]) -> Listed | None:
    """The one of half precision where there are several."""
    found = [file for file in files if "mmproj" in file.name.lower() and file.name.lower().endswith(".gguf")]
    return min(found, key=lambda file: (not re.search(r"[-._]f16\.", file.name.lower()), file.path), default=None)


async def _list(remote: Remote) -> list[Listed]:
    """The large files of the repository's main branch."""
    url: URL | None = (remote.origin / "api" / "models" / remote.repository / "tree" / "main").with_query(
        recursive="true"
    )
    files: list[Listed] = []
    for _ in range(MAX_PAGES):
        if url is None:
            return files
        data, headers = await remote.text(url, {}, MAX_PAGE)
        files += filter(None, map(_listed, _entries(data)))
        following = NEXT.search(headers.get("Link", ""))
        url = parse_url(following[1], url, "the next page of the repository's files") if following else None
    raise ServerError("the repository has too many files")


def _entries(data: bytes) -> list[Any]:
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise ServerError("the repository's list of files cannot be read")
    return entries


def _listed(entry: Any) -> Listed | None:
    """None for folders and small files, which have no SHA-256 in the list."""
    large = entry.get("lfs") if isinstance(entry, dict) else None
    if not isinstance(large, dict) or not isinstance(entry.get("path"), str):
        return None
    size, path = large.get("size"), entry["path"]
    if not isinstance(size, int) or not 0 <= size <= MAX_BLOB or any(p in ("", ".", "..") for p in path.split("/")):
        return None
    return Listed(path, Digest.parse(f"sha256:{large.get('oid')}"), size)


async def _text(remote: Remote, url: URL) -> bytes | None:
    try:
        return (await remote.text(url, {}, MAX_TEXT))[0]
    except StatusError as error:
        if error.code == 404:
            return None
        raise


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
