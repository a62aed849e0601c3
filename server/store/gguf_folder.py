"""A model as plain files for any program of the llama.cpp family: its GGUFs and a Modelfile that says the rest."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from modelfiles.gguf_types import SplitName
from server.errors import InvalidRequest
from server.store import record as records
from server.store import show
from server.store.blobs import CHUNK
from server.store.disk import disk_errors, fsync_folder
from server.store.layout import Hashing, Progress
from server.store.library import Library
from server.store.manifests import Layer
from server.store.record import Record

KINDS = ("model", "adapter", "projector", "draft")


def export(library: Library, name: str, out: Path, progress: Progress) -> None:
    """Write the folder ``out``, which may not be there. `llamada create -f out/Modelfile` makes the model again."""
    if os.path.lexists(out):
        raise InvalidRequest(f"{out} exists; choose another place or remove it")
    record = library.record(name, f"model '{name}' not found")
    if record.problem is not None:
        raise record.problem
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    with disk_errors("writing the export"):
        try:
            temporary.mkdir()
            paths = {kind: _files(library, record, kind, temporary, progress) for kind in KINDS}
            (temporary / "Modelfile").write_text(_modelfile(library, record, paths), "utf-8")
            fsync_folder(temporary)
            temporary.rename(out)
            fsync_folder(out.absolute().parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _files(library: Library, record: Record, kind: str, folder: Path, progress: Progress) -> list[str]:
    """Copies of the layers of one kind, named so that llama.cpp finds the parts of a split model."""
    layers = record.manifest.of_kind(kind)
    made = []
    for number, layer in enumerate(layers, 1):
        split = len(layers) > 1 and kind == "model"
        name = SplitName("model", number, len(layers)).file(number) if split else _name(kind, number, len(layers))
        _copy(library, layer, folder / name, progress)
        made.append(f"./{name}")  # the ./ tells a file from a model's name
    return made


def _name(kind: str, number: int, count: int) -> str:
    return f"{kind}.gguf" if count == 1 else f"{kind}-{number}.gguf"


def _copy(library: Library, layer: Layer, path: Path, progress: Progress) -> None:
    with library.blobs.open(layer.digest) as file, path.open("xb") as out:
        shutil.copyfileobj(Hashing(file, layer.digest, layer.size, progress), out, CHUNK)
        out.flush()
        os.fsync(out.fileno())


def _modelfile(library: Library, record: Record, paths: dict[str, list[str]]) -> str:
    licenses = [
        library.blobs.read(layer.digest, records.MAX_TEXT).decode("utf-8", "replace")
        for layer in record.manifest.of_kind("license")
    ]
    return show.modelfile(record, licenses, paths, record.system, dict(sorted(record.parameters.items())))
