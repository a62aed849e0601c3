"""Every example is run as it stands against a real server; the one with Open WebUI behind its marker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def run(url: str, *command: str, seconds: float = 100) -> str:
    environment = os.environ | {"OLLAMA_HOST": url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
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
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tools", [(), ("--tools",)])
def test_open_webui(url: str, tools: tuple[str, ...]) -> None:
    home = Path(os.environ.get("WEBUI_HOME") or Path.home() / ".cache/llamada/open-webui")
    out = run(url, str(home / "venv/bin/python"), str(EXAMPLES / "open_webui.py"), *tools, seconds=900)
    answers = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    assert "guide:latest" in answers["models"].split(", ")
    assert answers["answer"]
    assert answers["stopped"] == "at once"
    assert answers["unloaded"] == "guide:latest"
