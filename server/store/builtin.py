"""The built-in model, put into the store so that a fresh and offline machine can chat at once.

Installed once per version of its files. A marker beside the store remembers what was put there: a model that the
user deleted stays deleted, one that the user changed stays changed. Nothing to do costs a few ``stat`` calls.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from modelfiles import modelfile
from modelfiles.names import ModelName
from server.errors import StoreError
from server.store.assembly import Assembly
from server.store.blobs import CHUNK
from server.store.disk import disk_errors, make_folders, open_regular, write_atomic
from server.store.layers import Part
from server.store.library import Library
from server.store.manifests import LAYER_TYPE, Layer
from server.store.requests import CreateRequest
from server.store.sources import Sources, Weights, read
from server.types import Message

logger = logging.getLogger(__name__)

MARKER = ".llamada-builtin.json"
WEIGHTS = "guide.gguf"
MODELS = {"guide": "Modelfile", "guide:think": "think.Modelfile"}
MAX_MARKER = 64 * 1024


def install(library: Library, folder: Path) -> list[str]:
    """Put the models of ``folder`` (weights, Modelfiles) into the store. Names of those that are new or renewed."""
    files = [folder / name for name in (WEIGHTS, *MODELS.values())]
    stamps = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files if path.is_file()]
    marker = _marker(library)
    if not (folder / WEIGHTS).is_file() or marker.get("stamps") == stamps:
        return []
    content = _content(files)
    ours: dict[str, str] = marker.get("models", {})
    renewed: list[str] = []
    if marker.get("content") != content:
        renewed = [name for name, file in MODELS.items() if (folder / file).is_file() and _wanted(library, name, ours)]
        if renewed:
            _create(library, folder, renewed)
        ours = {**ours, **{name: library.resolve(name).digest for name in renewed}}
    with disk_errors("remembering the built-in model"):
        make_folders(library.root)
        data = json.dumps({"stamps": stamps, "content": content, "models": ours}, indent=1)
        write_atomic(library.root / MARKER, data.encode())
    return renewed


def _marker(library: Library) -> dict[str, Any]:
    """What was installed before; {} where nothing was, or where nobody can tell any more."""
    try:
        with open_regular(library.root / MARKER) as file:
            marker = json.loads(file.read(MAX_MARKER))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) and isinstance(marker.get("models", {}), dict) else {}


def _content(files: list[Path]) -> str:
    """A digest of the files: a copy with other times is the same version."""
    checksum = hashlib.sha256()
    for path in files:
        if path.is_file():
            checksum.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    checksum.update(chunk)
    return checksum.hexdigest()


def _wanted(library: Library, name: str, ours: dict[str, str]) -> bool:
    """Never there before, or there and still the one that we put there."""
    entry = library.manifests.find(ModelName.parse(name))
    if entry is None:
        return name not in ours
    try:
        return library.manifests.read(entry).digest == ours.get(name)
    except StoreError:
        return True


def _create(library: Library, folder: Path, names: list[str]) -> None:
    with ExitStack() as pins:
        digest = library.blobs.add_file(folder / WEIGHTS)
        pins.enter_context(library.pin([digest]))
        header = read(library.blobs, digest)
        part = Part(Layer(LAYER_TYPE + "model", digest, header.size), "", header)
        for name in names:
            sources = Sources(library, pins)
            sources.weights = [Weights(part, [header])]
            request = _request(name, (folder / MODELS[name]).read_text("utf-8"))
            config, parts = Assembly(library, request, sources, [part], pins).build()
            library.write(ModelName.parse(name), config, tuple(made.layer for made in parts))
            logger.info("installed the built-in model %s", name)


def _request(name: str, text: str) -> CreateRequest:
    parsed = modelfile.parse(text)
    return CreateRequest(
        name,
        template=parsed.template or "",
        system=parsed.system or "",
        license=list(parsed.licenses),
        parameters=parsed.parameters,
        messages=tuple(Message(role, content) for role, content in parsed.messages),
        renderer=parsed.renderer,
        parser=parsed.parser,
    )
