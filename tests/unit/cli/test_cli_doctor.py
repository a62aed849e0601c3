from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeServer

from server.cli import doctor
from server.cli.build import read_build
from server.config import Config

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe of llama.cpp has its own tests and takes half a second."""
    monkeypatch.setattr(doctor, "hardware", lambda config: iter(()))


def test_all_is_well(fake: FakeServer, llamada: Run) -> None:
    result = llamada("doctor")
    assert result.status == 0
    assert f"ok      server: llamada 0.1.0 answers at {fake.url}" in result.out
    assert "llama-cpp-python 0.3.36" in result.out


def test_an_ollama_in_our_place_is_a_warning(fake: FakeServer, llamada: Run) -> None:
    fake.answers["GET /api/version"] = {"version": "0.11.0"}
    result = llamada("doctor", "--json")
    assert result.status == 0
    (found,) = [f for f in json.loads(result.out)["findings"] if f["what"] == "server"]
    assert found["level"] == "warning"
    assert "serve beside it: OLLAMA_HOST=127.0.0.1:" in found["text"]


def test_a_stranger_at_the_port_is_a_problem(fake: FakeServer, llamada: Run) -> None:
    del fake.answers["GET /api/version"]
    result = llamada("doctor", "--json")
    assert result.status == 1
    assert json.loads(result.out)["ok"] is False


def test_a_free_port_is_fine_and_an_impossible_address_is_not() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        number = unused.getsockname()[1]
    (free,) = doctor.server(Config.load({"OLLAMA_HOST": f"127.0.0.1:{number}"}))
    assert (free.level, "is free" in free.text) == ("ok", True)
    (bad,) = doctor.port(Config.load({"OLLAMA_HOST": "192.0.2.1:11434"}))
    assert bad.level == "problem"


def test_a_build_record_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert read_build(tmp_path) is None
    record = tmp_path / "llamada-build.json"
    record.write_text('{"kind": "cuda", "reason": "a GPU", "llama_cpp_python": "0.3.36", "more": 1}')
    found = read_build(tmp_path)
    assert found is not None
    assert found.kind == "cuda"
    record.write_text("[]")
    assert read_build(tmp_path) is None


def test_a_model_with_a_lost_file_is_a_problem(tmp_path: Path) -> None:
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{'a' * 64}", "size": 5}
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": f"sha256:{'b' * 64}", "size": 2}
    path = tmp_path / "manifests/registry.ollama.ai/library/lost/latest"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}))
    found = list(doctor.store(Config.load({"OLLAMA_MODELS": str(tmp_path)})))
    assert [f.level for f in found] == ["problem", "ok"]
    assert found[0].text.startswith("lost:latest has missing or cut files")
    path.write_text("{")
    assert next(doctor.store(Config.load({"OLLAMA_MODELS": str(tmp_path)}))).level == "problem"


def test_fsck_prints_what_it_found(fake: FakeServer, llamada: Run, tmp_path: Path) -> None:
    sound = llamada("fsck")
    assert (sound.status, "0 models, 0 blobs, 0 B in" in sound.out, "sound" in sound.out) == (0, True, True)
    path = tmp_path / "models/manifests/registry.ollama.ai/library/bad/latest"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    damaged = llamada("fsck", "--json")
    assert damaged.status == 1
    assert json.loads(damaged.out)["sound"] is False
    assert "damaged" in llamada("fsck").out
