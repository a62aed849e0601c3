from __future__ import annotations

import os
import time
from pathlib import Path

from modelfiles.names import ModelName
from server.store.library import Library
from server.store.prune import ORPHAN_SECONDS


def age(path, seconds=ORPHAN_SECONDS + 60):
    past = time.time() - seconds
    os.utime(path, (past, past))


def test_a_sound_store_is_left_alone(library):
    for path in (library.root / "blobs").iterdir():
        if path.is_file():
            age(path)
    used = {digest for record in library.models() for digest in record.manifest.blobs()}
    swept = library.sweep()
    assert swept.quarantined == ()
    assert set(library.blobs.digests()) == used
    assert len(library.tags()) == 9


def test_orphans_go_after_an_hour(library):
    old, _ = library.blobs.add_bytes(b"old orphan")
    young, _ = library.blobs.add_bytes(b"young orphan")
    held, _ = library.blobs.add_bytes(b"held by a worker")
    age(library.blobs.path(old))
    age(library.blobs.path(held))
    (library.root / "manifests/registry.ollama.ai/library/gone").mkdir()
    before = len(list(library.blobs.digests()))
    swept = Library(library.root, keep=lambda digest: digest == held).sweep()
    assert not library.blobs.has(old)
    assert library.blobs.has(young)
    assert library.blobs.has(held)
    assert swept.blobs == before - len(list(library.blobs.digests()))
    assert not (library.root / "manifests/registry.ollama.ai/library/gone").exists()


def test_noprune(library):
    old, _ = library.blobs.add_bytes(b"old orphan")
    age(library.blobs.path(old))
    assert Library(library.root, prune=False).sweep().blobs == 0
    assert library.blobs.has(old)


def test_a_bad_manifest_is_put_aside_and_its_blobs_wait_for_the_next_start(library):
    path = library.manifests.path(ModelName.parse("nano-q8"))
    weights = library.resolve("nano-q8").weights
    path.write_bytes(b"")
    age(weights)
    swept = library.sweep()
    assert swept.quarantined == ("registry.ollama.ai__library__nano-q8__latest",)
    assert (library.root / "manifests/.corrupt" / swept.quarantined[0]).exists()
    assert weights.exists()
    assert len(library.tags()) == 8
    assert library.sweep().blobs >= 1
    assert not weights.exists()


def test_leftovers_of_a_crash_are_swept(library):
    library.blobs.incoming.mkdir(exist_ok=True)
    (library.blobs.incoming / "half").write_bytes(b"x")
    assert library.sweep().leftovers == 1


def test_half_written_manifests_are_swept(library):
    half = library.manifests.path(ModelName.parse("nano")).with_name(".0123456789abcdef.tmp")
    half.write_bytes(b"{")
    assert library.sweep().leftovers == 0  # somebody may be writing it right now
    age(half)
    assert library.sweep().leftovers == 1
    assert not half.exists()


def test_a_store_that_cannot_be_written_is_no_reason_not_to_start(library, monkeypatch, caplog):
    old, _ = library.blobs.add_bytes(b"old orphan")
    age(library.blobs.path(old))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert library.sweep().blobs == 0
    assert "read-only file system" in caplog.text


def test_the_old_spelling_of_blobs_is_renamed(library):
    weights = library.resolve("nano").weights
    os.rename(weights, weights.with_name(weights.name.replace("-", ":")))
    library.sweep()
    assert weights.exists()


def test_what_has_not_changed_is_not_read_again(library, monkeypatch):
    data = library.manifests.path(ModelName.parse("nano")).read_bytes()
    for number in range(200):
        library.manifests.write_bytes(ModelName.parse(f"copy:{number}"), data)
    library.sweep()
    opened, really = [], os.open

    def counting(path, *rest, **named):
        opened.append(path)
        return really(path, *rest, **named)

    monkeypatch.setattr(os, "open", counting)
    assert len(library.tags()) == 209
    assert opened
    opened.clear()
    assert len(library.tags()) == 209
    assert opened == []
