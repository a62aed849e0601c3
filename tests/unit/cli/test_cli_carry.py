"""`export`, `import` and `prune` on a models directory, without a server."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.store import fsck
from server.store.library import Library

GOLDEN = Path(__file__).parents[2] / "golden" / "models"
Run = Callable[..., Any]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llamada: Run) -> Path:
    """A store with one model, made without a server."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    (tmp_path / "Modelfile").write_text(f"FROM {GOLDEN / 'nano.gguf'}\nSYSTEM You are terse.\nPARAMETER seed 7\n")
    result = llamada("import", str(tmp_path / "Modelfile"), "mine")
    assert (result.status, result.out) == (0, "imported 'mine:latest'\n")
    return tmp_path / "models"


@pytest.mark.parametrize("out", ["carry.tar", "carry"])
def test_out_and_in_again_is_the_same_model(
    out: str, models: Path, tmp_path: Path, llamada: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / out
    assert llamada("export", "mine", "-o", str(place)).status == 0
    assert "exists" in llamada("export", "mine", "-o", str(place)).err
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "other"))
    assert llamada("import", str(place)).out == "imported 'mine:latest'\n"
    assert llamada("import", str(place), "second:v1").out == "imported 'second:v1'\n"
    there, here = Library(models).resolve("mine"), Library(tmp_path / "other")
    assert [here.resolve(name).digest for name in ("mine", "second:v1")] == [there.digest] * 2
    assert here.resolve("mine").system == "You are terse."
    assert fsck.check(here.root).problems == ()


def test_gguf_and_modelfile(models: Path, tmp_path: Path, llamada: Run) -> None:
    place = tmp_path / "plain"
    assert llamada("export", "mine", "--gguf", "-o", str(place)).status == 0
    assert sorted(path.name for path in place.iterdir()) == ["Modelfile", "model.gguf"]
    assert llamada("import", str(place), "again").status == 0
    one, two = (Library(models).resolve(name) for name in ("mine", "again"))
    assert (one.weights_digest, one.system, one.parameters) == (two.weights_digest, two.system, two.parameters)


def test_a_read_only_file_is_linked_and_no_other(models: Path, tmp_path: Path, llamada: Run) -> None:
    for mode, linked in ((0o444, True), (0o644, False)):
        path = tmp_path / f"{mode:o}.gguf"
        path.write_bytes((GOLDEN / "nano-tools.gguf").read_bytes())
        path.chmod(mode)
        library = Library(tmp_path / f"store-{mode:o}")
        digest = library.blobs.add_file(path)
        assert os.path.samefile(library.blobs.path(digest), path) is linked
        assert list(library.blobs.incoming.iterdir()) == []


def bad_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("index.json.link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


INDEX = {"manifests": [{"digest": "sha256:" + "0" * 64, "annotations": {"org.opencontainers.image.ref.name": "x"}}]}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"readme": b""}, "index.json is missing"),
        ({"index.json": b"{"}, "no OCI image layout"),
        ({"index.json": json.dumps(INDEX).encode()}, "is missing in the tar"),
        ({"index.json": json.dumps(INDEX).encode(), "blobs/sha256/" + "0" * 64: b"{}"}, "is damaged"),
        ({"index.json": b'{"manifests": [{"digest": "sha256:../../x"}]}'}, "invalid digest format"),
        ({"../../evil": b"x", "index.json": b"[]"}, "no OCI image layout"),
    ],
)
def test_bad_archives_leave_nothing(
    members: dict[str, bytes], said: str, models: Path, tmp_path: Path, llamada: Run
) -> None:
    before = sorted(path for path in tmp_path.parent.rglob("*") if path.is_file())
    path = bad_tar(tmp_path / "bad.tar", members)
    result = llamada("import", str(path))
    assert result.status == 1
    assert said in result.err
    path.unlink()
    assert sorted(path for path in tmp_path.parent.rglob("*") if path.is_file()) == before


def test_a_damaged_blob_is_not_exported(models: Path, tmp_path: Path, llamada: Run) -> None:
    weights = Library(models).resolve("mine").weights
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)
    result = llamada("export", "mine", "-o", str(tmp_path / "x.tar"))
    assert "is damaged" in result.err
    assert not [path for path in tmp_path.iterdir() if "x.tar" in path.name]


def test_prune_removes_what_nobody_needs(models: Path, llamada: Run) -> None:
    library = Library(models)
    digest, _ = library.blobs.add_bytes(b"nobody's")
    (models / "blobs" / f"{digest.file_name}-partial").write_bytes(b"no")
    assert json.loads(llamada("prune", "--json").out)["files"] == 0
    os.utime(library.blobs.path(digest), (0, 0))
    assert json.loads(llamada("prune", "--json").out)["files"] == 1
    assert json.loads(llamada("prune", "--all", "--json").out)["files"] == 1
    assert fsck.check(models).problems == ()
    assert library.resolve("mine")


def test_prune_leaves_a_running_server_alone(models: Path, fake: Any, llamada: Run) -> None:
    assert "stop it first" in llamada("prune").err
