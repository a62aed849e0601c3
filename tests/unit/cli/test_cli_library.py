from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fake_ollama import FakeServer

DIGEST = "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"
Run = Callable[..., Any]


def ago(**duration: float) -> str:
    return (datetime.now(UTC) - timedelta(**duration)).isoformat().replace("+00:00", "Z")


def model(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "model": name, "digest": DIGEST, "size": 2_019_393_189, "modified_at": ago(hours=2)} | fields


def test_list_prints_the_columns_of_ollama(fake: FakeServer, llamada: Run) -> None:
    fake.answers["GET /api/tags"] = {"models": [model("llama3.2:latest"), model("far:cloud", remote_model="far")]}
    assert llamada("list").out == (
        "NAME               ID              SIZE      MODIFIED\n"
        "llama3.2:latest    a80c4f17acd5    2.0 GB    2 hours ago\n"
        "far:cloud          a80c4f17acd5    -         2 hours ago\n"
    )


def test_list_takes_a_prefix_in_any_case(fake: FakeServer, llamada: Run) -> None:
    fake.answers["GET /api/tags"] = {"models": [model("Guide:latest"), model("nano:latest")]}
    assert "nano" not in llamada("ls", "gui").out
    assert [m["name"] for m in json.loads(llamada("list", "NANO", "--json").out)["models"]] == ["nano:latest"]


def test_list_without_models_is_its_header(fake: FakeServer, llamada: Run) -> None:
    fake.answers["GET /api/tags"] = {"models": []}
    assert llamada("list").out == "NAME    ID    SIZE    MODIFIED\n"


def test_ps_prints_where_and_until_when(fake: FakeServer, llamada: Run) -> None:
    def loaded(name: str, expires_at: str, vram: int) -> dict[str, Any]:
        return model(name, expires_at=expires_at, size=1_000_000_000, size_vram=vram, context_length=4096)

    fake.answers["GET /api/ps"] = {
        "models": [
            loaded("a:latest", ago(minutes=-4, seconds=-30), 0),
            loaded("b:latest", ago(days=-365 * 290), 590_000_000),
            loaded("c:latest", ago(seconds=5), 1_000_000_000),
        ]
    }
    assert llamada("ps").out == (
        "NAME        ID              SIZE    PROCESSOR          CONTEXT    UNTIL\n"
        "a:latest    a80c4f17acd5    1 GB    100% CPU           4096       4 minutes from now\n"
        "b:latest    a80c4f17acd5    1 GB    41%/59% CPU/GPU    4096       Forever\n"
        "c:latest    a80c4f17acd5    1 GB    100% GPU           4096       Stopping...\n"
    )
    assert len(json.loads(llamada("ps", "--json").out)["models"]) == 3


def test_cp_rm_and_stop_say_what_they_did(fake: FakeServer, llamada: Run) -> None:
    fake.answers |= {"POST /api/copy": {}, "DELETE /api/delete": {}, "POST /api/generate": {"done": True}}
    assert llamada("cp", "a", "b").out == "copied 'a' to 'b'\n"
    assert llamada("rm", "a", "b").out == "deleted 'a'\ndeleted 'b'\n"
    assert llamada("stop", "a").out == ""
    assert fake.bodies("POST /api/copy") == [{"source": "a", "destination": "b"}]
    assert fake.bodies("DELETE /api/delete") == [{"model": "a"}, {"model": "b"}]
    assert fake.bodies("POST /api/generate")[-1] == {"model": "a", "keep_alive": 0, "stream": False}


def test_what_is_not_there_is_an_error(fake: FakeServer, llamada: Run) -> None:
    missing = (404, {"error": "model 'x' not found"})
    fake.answers |= {"DELETE /api/delete": missing, "POST /api/generate": missing, "POST /api/show": missing}
    for command, text in (("rm", "model 'x' not found"), ("stop", 'couldn\'t find model "x" to stop')):
        result = llamada(command, "x")
        assert (result.status, result.out, result.err) == (1, "", f"Error: {text}\n")
    assert llamada("show", "x").err == "Error: model 'x' not found\n"
    assert "llamada create x" in llamada("run", "x", "hi").err


def test_without_a_server_the_error_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch, llamada: Run) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{unused.getsockname()[1]}")
        result = llamada("list")
    assert result.status == 1
    assert result.err.startswith("Error: could not connect to llamada server at http://127.0.0.1:")
    assert "run 'llamada serve' to start it" in result.err


def test_what_is_no_ollama_server_is_said(fake: FakeServer, llamada: Run) -> None:
    fake.answers["GET /api/tags"] = (502, {})
    assert "Error: " in llamada("list").err


def test_bad_use_is_one_line_and_status_1(llamada: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert llamada("frobnicate").err.startswith('Error: unknown command "frobnicate" for "llamada"')
    assert llamada("show").err == "Error: Missing argument 'MODEL'.\n"
    monkeypatch.setenv("OLLAMA_HOST", "host:99999")
    result = llamada("list")
    assert result.status == 1
    assert "OLLAMA_HOST" in result.err


def test_version_names_both_sides(fake: FakeServer, llamada: Run) -> None:
    assert "llamada version is 0.1.0" in llamada("--version").out
    del fake.answers["GET /api/version"]
    assert "could not connect to a running" in llamada("--version").out


def test_help_is_quick_because_it_imports_nothing() -> None:
    code = (
        "import sys; from server.cli.main import main; main(['--help']);"
        "print([m for m in ('aiohttp', 'numpy', 'rich', 'http.client', 'llama_cpp', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
