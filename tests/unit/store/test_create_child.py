"""create's child process, and what a crash, a full disk or a power cut leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from contextlib import aclosing

import pytest

from server.errors import ModelNotFound, StoreError
from server.store import rewrite as rewriting
from server.store.create import CreateRequest, create
from server.store.library import Library
from server.store.rewrite import child_environment


def test_the_child_sees_only_the_allowed_variables():
    given = {"PATH": "/bin", "HOME": "/h", "LANG": "C", "TMPDIR": "/t", "AWS_SECRET": "x", "LD_PRELOAD": "y"}
    assert child_environment(given) == {
        "PATH": "/bin", "HOME": "/h", "LANG": "C", "TMPDIR": "/t", "GGML_NO_BACKTRACE": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip


def test_a_child_that_crashes_is_one_clear_error(library, creating, monkeypatch, tmp_path, caplog):
    script = tmp_path / "crash"
    script.write_text("#!/bin/sh\necho for the operator >&2\nkill -SEGV $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(rewriting.sys, "executable", str(script))
    status, events = creating(library, model="m", source="nano", quantize="Q8_0")
    assert status == 400
    assert "the file is probably damaged" in events[-1]["error"]
    assert "for the operator" in caplog.text


def test_leaving_kills_the_child_and_its_files(library, monkeypatch, tmp_path):
    script = tmp_path / "slow"
    pid = tmp_path / "pid"
    script.write_text(f'#!/bin/sh\necho $$ > {pid}\necho \'{{"completed": 1, "total": 4}}\'\nexec sleep 60\n')
    script.chmod(0o755)
    monkeypatch.setattr(rewriting.sys, "executable", str(script))

    async def run() -> None:
        async with aclosing(create(library, CreateRequest("m", source="nano", quantize="Q8_0"))) as events:
            async for event in events:
                assert event["completed"] == event["total"] // 4
                break

    asyncio.run(run())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert list(library.blobs.incoming.iterdir()) == []
    assert not library._pins


def test_a_full_disk_is_named(library, creating, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, events = creating(library, model="m", source="nano", system="brand new")
    assert status == 500
    assert "no space left on device" in events[-1]["error"]
    assert not any(tag["name"] == "m:latest" for tag in library.tags())


def test_every_power_cut_during_create_leaves_no_half_model(library, creating, cut_power_at):
    for step in range(1, 80):
        name = f"m{step}"
        with cut_power_at(step) as steps:
            creating(library, model=name, source="nano", system=f"system {step}", parameters={"seed": step})
        fresh = Library(library.root)
        if steps[-1] != "cut":
            assert fresh.resolve(name).system == f"system {step}"
            break
        try:
            assert fresh.resolve(name).parameters["seed"] == step
        except ModelNotFound:
            continue
    assert step > 15


def test_a_blob_that_vanished_stops_the_manifest(library, monkeypatch):
    async def run() -> None:
        async for event in create(library, CreateRequest("m", source="nano", system="gone soon")):
            if event["status"] == "writing manifest":
                for path in (library.root / "blobs").iterdir():
                    if path.is_file() and path.read_bytes() == b"gone soon":
                        path.unlink()

    with pytest.raises(StoreError, match="missing or has the wrong size"):
        asyncio.run(run())
    with pytest.raises(ModelNotFound):
        library.resolve("m")


def test_ollama_like_tools_see_a_valid_store(library):
    """Every manifest names blobs that are there, by name, size and content."""
    for path in (library.root / "manifests").rglob("*"):
        if path.is_file():
            document = json.loads(path.read_bytes())
            assert document["schemaVersion"] == 2
            for layer in [document["config"], *document["layers"]]:
                blob = library.root / "blobs" / layer["digest"].replace(":", "-")
                assert blob.stat().st_size == layer["size"]
    names = [p.name for p in (library.root / "blobs").iterdir() if p.is_file()]
    out = subprocess.run(["sha256sum", *names], cwd=library.root / "blobs", capture_output=True, text=True, check=True)
    assert all(line.split()[1] == f"sha256-{line.split()[0]}" for line in out.stdout.splitlines())
