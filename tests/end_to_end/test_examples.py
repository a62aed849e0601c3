"""Every example is run as it stands against a real server; the one with Open WebUI behind its marker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.cli.private import private_server

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_MODELS", str(folder / "models"))
        patch.setenv("LLAMADA_DATA_DIR", str(folder / "data"))
        with private_server() as address:
            yield address.url


def run(url: str, *command: str) -> str:
    environment = os.environ | {"OLLAMA_HOST": url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_ollama_client(url: str) -> None:
    out = run(url, sys.executable, str(EXAMPLES / "ollama_client.py"))
    assert "guide:latest" in out
    assert {line.split(":")[0] for line in out.splitlines()} >= {"models", "chat", "json"}
    assert "embeddings: 2 of " in out


def test_the_openai_client(url: str) -> None:
    out = run(url, sys.executable, str(EXAMPLES / "openai_client.py"))
    assert "guide:latest" in out
    assert {line.split(":")[0] for line in out.splitlines()} >= {"models", "chat", "stream"}
    assert "embeddings: 2 of " in out


def test_curl(url: str) -> None:
    out = run(url, "bash", str(EXAMPLES / "curl.sh"))
    answers = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert {m["name"] for m in answers[0]["models"]} >= {"guide:latest"}
    assert len([answer for answer in answers if answer.get("done")]) == 4
    assert answers[-1]["models"][0]["name"] == "guide:latest"


@pytest.mark.webui
@pytest.mark.timeout(1200)
def test_open_webui_finds_the_models(url: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = f"http://127.0.0.1:{port}"
    environment = os.environ | {"OLLAMA_HOST": url, "PORT": str(port), "WEBUI_DATA": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        script = ["bash", str(EXAMPLES / "open_webui.sh")]
        child = subprocess.Popen(script, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        while "true" not in fetch(f"{page}/health"):
            assert child.poll() is None, (tmp_path / "log").read_text()
            time.sleep(1)
        token = json.loads(fetch(f"{page}/api/v1/auths/signin", {"email": "", "password": ""}))["token"]
        assert "guide:latest" in fetch(f"{page}/ollama/api/tags", token=token)
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(30)


def fetch(address: str, body: dict[str, str] | None = None, token: str = "") -> str:
    """Empty while nobody answers."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
