"""Frameworks on top of the clients. Run by ``scripts/clients.sh``, which installs them first."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HOME = Path(os.environ.get("CLIENTS_HOME") or Path.home() / ".cache/llamada/clients")


def run(url: str, *command: str) -> None:
    environment = os.environ | {"OLLAMA_HOST": url, "CLIENTS_HOME": str(HOME)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("framework", ["langchain", "llama_index", "litellm"])
def test_python(url: str, framework: str) -> None:
    run(url, str(HOME / "venv/bin/python"), str(HERE / "frameworks.py"), framework)


@pytest.mark.slow
def test_npm(url: str) -> None:
    run(url, "node", str(HERE / "frameworks.mjs"))
