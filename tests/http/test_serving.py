"""The server as a process: it listens, says so, drains on SIGTERM, leaves nobody behind, and explains itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

NANO = Path(__file__).parents[1] / "golden" / "models" / "nano.gguf"
SERVE = (
    "import sys; from server.app import serve; from server.config import Config; sys.exit(serve(Config.load(), print))"
)


def start(folder: Path, **environ: str) -> subprocess.Popen[str]:
    given = {"OLLAMA_HOST": "127.0.0.1:0", "LLAMADA_GUIDE": "0", "PYTHONUNBUFFERED": "1", **environ}
    given |= {"OLLAMA_MODELS": str(folder / "models"), "LLAMADA_DATA_DIR": str(folder / "data")}
    return subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **given},
        cwd=Path(__file__).parents[2],
    )


class Served:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.url = process.stdout.readline().strip()

    def post(self, path: str, body: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=20)

    def make_model(self) -> None:
        digest = f"sha256:{hashlib.sha256(NANO.read_bytes()).hexdigest()}"
        self.post(f"/api/blobs/{digest}", NANO.read_bytes()).close()
        self.post("/api/create", {"model": "nano", "files": {"nano.gguf": digest}}).read()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(start(tmp_path, LLAMADA_DRAIN_TIMEOUT="0.2"))
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def test_sigterm_ends_streams_with_an_error_line_and_leaves_no_process(served: Served) -> None:
    served.make_model()
    options = {"num_predict": 100_000, "seed": 1, "temperature": 1.5, "num_ctx": 1024}
    answer = served.post("/api/generate", {"model": "nano", "prompt": "x", "options": options, "raw": True})
    assert json.loads(answer.readline())["done"] is False
    children = psutil.Process(served.process.pid).children(recursive=True)
    assert children
    begun = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    last = json.loads(answer.read().splitlines()[-1])
    assert last == {"error": "the server is shutting down"} or last["done"] is True
    assert served.process.wait(10) == 0
    assert time.monotonic() - begun < 8
    _, alive = psutil.wait_procs(children, timeout=2)
    assert not alive


def test_an_idle_server_leaves_at_once(served: Served) -> None:
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(5) == 0


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(tmp_path, OLLAMA_HOST=f"127.0.0.1:{port}")
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert re.search(rf"Error: 127.0.0.1:{port} is in use.*type OLLAMA_HOST=127.0.0.1:{port + 1} llamada serve", errors)
    assert "Traceback" not in errors


def test_a_models_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    _, errors = start(tmp_path).communicate(timeout=60)
    assert re.search(r"Error: \S+/models/\S+ cannot be used: not a directory", errors)
    assert "Traceback" not in errors


def test_bound_to_all_it_warns(tmp_path: Path) -> None:
    process = start(tmp_path, OLLAMA_HOST="0.0.0.0:0")
    server = Served(process)
    assert server.url.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert "no keys are asked for" in errors
