from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from server.errors import InvalidRequest, StoreError
from server.store import blobs as blobs_module
from server.store.blobs import KEEP_PARTIAL_SECONDS, Blobs
from server.store.digests import Digest


def visible(blobs: Blobs) -> list[str]:
    return sorted(p.name for p in blobs.folder.iterdir() if p.is_file()) if blobs.folder.exists() else []


def test_round_trip(tmp_path):
    blobs = Blobs(tmp_path)
    digest, created = blobs.add_bytes(b"abc")
    assert created
    assert blobs.path(digest) == tmp_path / "blobs" / f"sha256-{digest.hex}"
    assert blobs.add_bytes(b"abc") == (digest, False)
    assert (blobs.size(digest), blobs.has(digest), blobs.read(digest, 3)) == (3, True, b"abc")
    assert list(blobs.digests()) == [digest]
    assert os.stat(blobs.path(digest)).st_mode & 0o777 == 0o644
    with pytest.raises(StoreError, match="over 2 bytes"):
        blobs.read(digest, 2)
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.has(digest)
    with pytest.raises(StoreError, match="no such file"):
        blobs.read(digest, 3)


def test_final_name_is_not_there_before_commit(tmp_path):
    blobs = Blobs(tmp_path)
    with blobs.writer() as writer:
        for part in (b"a", b"b", b"c"):
            writer.write(part)
            assert visible(blobs) == []
        digest = writer.commit(Digest.of(b"abc"))
    assert visible(blobs) == [digest.file_name]
    assert list(blobs.incoming.iterdir()) == []


def test_mismatch_keeps_the_blob_under_its_true_digest(tmp_path):
    blobs = Blobs(tmp_path)
    expected, found = Digest.of(b"x"), Digest.of(b"y")
    with blobs.writer() as writer:
        writer.write(b"y")
        with pytest.raises(InvalidRequest) as error:
            writer.commit(expected)
    assert error.value.message == f'digest mismatch, expected "{expected}", got "{found}"'
    assert visible(blobs) == [found.file_name]


def test_mismatch_of_a_pull_leaves_nothing(tmp_path):
    blobs = Blobs(tmp_path)
    with blobs.writer() as writer:
        writer.write(b"y")
        with pytest.raises(InvalidRequest):
            writer.commit(Digest.of(b"x"), keep_other=False)
    assert visible(blobs) == []
    assert list(blobs.incoming.iterdir()) == []


def test_more_than_announced_is_refused(tmp_path):
    blobs = Blobs(tmp_path)
    with blobs.writer(limit=4) as writer:
        writer.write(b"1234")
        with pytest.raises(InvalidRequest, match="announced 4 bytes"):
            writer.write(b"5")


def test_abandoned_writer_leaves_nothing(tmp_path):
    blobs = Blobs(tmp_path)
    with blobs.writer() as writer:
        writer.write(b"abc")
    assert visible(blobs) == []
    assert list(blobs.incoming.iterdir()) == []


def test_every_power_cut_leaves_right_names_only(tmp_path, cut_power_at):
    for step in range(1, 40):
        root = tmp_path / str(step)
        root.mkdir()
        blobs = Blobs(root)
        with cut_power_at(step) as steps:
            blobs.add_bytes(b"content of a blob")
        for name in visible(blobs):
            assert name == Digest.of((blobs.folder / name).read_bytes()).file_name
        Blobs(root).sweep_incoming()
        assert not blobs.incoming.exists() or list(blobs.incoming.iterdir()) == []
        if steps[-1] != "cut":
            break
    assert step > 6
    assert steps[-3:] == ["replace", "open", "fsync"]
    assert "fsync" in steps[:-3]


def test_full_disk_names_space_and_leaves_nothing(tmp_path, monkeypatch):
    blobs = Blobs(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError) as error:
        blobs.add_bytes(b"abc")
    assert "no space left on device" in error.value.message
    assert "/" not in error.value.message
    assert visible(blobs) == []


def test_full_disk_while_writing(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    blobs = Blobs(tmp_path)
    with blobs.writer() as writer:
        os.dup2(os.open("/dev/full", os.O_WRONLY), writer._file.fileno())
        with pytest.raises(StoreError, match="no space left"):
            writer.write(b"x" * 100_000)
    assert visible(blobs) == []


def test_add_file_copies_and_never_links(tmp_path):
    source = tmp_path / "model.gguf"
    source.write_bytes(b"weights" * 1000)
    blobs = Blobs(tmp_path / "models")
    digest = blobs.add_file(source)
    assert digest == Digest.of(source.read_bytes())
    assert os.stat(blobs.path(digest)).st_ino != os.stat(source).st_ino
    source.write_bytes(b"changed")
    assert blobs.read(digest, 10_000) == b"weights" * 1000


def test_a_reflinked_blob_is_hashed_too(tmp_path, monkeypatch):
    source = tmp_path / "model.gguf"
    source.write_bytes(b"weights")

    def clone(target: int, request: int, origin: int) -> int:
        assert request == 0x40049409
        return os.write(target, os.pread(origin, 100, 0)) and os.lseek(target, 0, os.SEEK_SET)

    monkeypatch.setattr(blobs_module.fcntl, "ioctl", clone)
    blobs = Blobs(tmp_path / "models")
    assert blobs.read(blobs.add_file(source), 100) == b"weights"


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "device"])
def test_only_regular_files_are_added(tmp_path, kind):
    source = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(source)
    elif kind == "folder":
        source.mkdir()
    elif kind == "link":
        (tmp_path / "y").write_bytes(b"y")
        source.symlink_to(tmp_path / "y")
    else:
        source = Path("/dev/zero")
    with pytest.raises(StoreError) as error:
        Blobs(tmp_path / "models").add_file(source, follow=False)
    assert str(tmp_path) not in error.value.message


def test_a_link_in_place_of_a_blob_is_not_a_blob(tmp_path):
    blobs = Blobs(tmp_path)
    digest = Digest.of(b"abc")
    blobs.folder.mkdir()
    (tmp_path / "secret").write_bytes(b"abc")
    blobs.path(digest).symlink_to(tmp_path / "secret")
    assert not blobs.has(digest)
    with pytest.raises(StoreError):
        blobs.open(digest)


def test_sweep_takes_the_abandoned_and_spares_the_running(tmp_path):
    blobs = Blobs(tmp_path)
    with blobs.writer() as writer, blobs.staging() as staging:
        writer.write(b"alive")
        (staging / "out").write_bytes(b"alive")
        (blobs.incoming / "dead").write_bytes(b"x")
        (blobs.incoming / "dead-folder").mkdir()
        (blobs.incoming / "dead-folder" / "out").write_bytes(b"x")
        (blobs.incoming / "link").symlink_to(tmp_path)
        assert blobs.sweep_incoming() == 3
        assert (staging / "out").exists()
        assert blobs.read(writer.commit(), 10) == b"alive"
    assert list(blobs.incoming.iterdir()) == []


def test_sweep_keeps_young_downloads(tmp_path):
    blobs = Blobs(tmp_path)
    blobs.folder.mkdir()
    young, old = (blobs.folder / f"sha256-{'0' * 63}{n}-partial-0" for n in (1, 2))
    young.touch()
    old.touch()
    past = time.time() - KEEP_PARTIAL_SECONDS - 60
    os.utime(old, (past, past))
    assert blobs.sweep_incoming() == 1
    assert young.exists()
    assert not old.exists()


def test_adopt_names_a_childs_output(tmp_path):
    blobs = Blobs(tmp_path)
    with blobs.staging() as staging:
        (staging / "out").write_bytes(b"quantized")
        digest, created = blobs.adopt(staging / "out")
    assert created
    assert blobs.read(digest, 100) == b"quantized"
    assert list(blobs.incoming.iterdir()) == []
