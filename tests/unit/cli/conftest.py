"""The command line run inside the test's process, against a server of canned answers."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_ollama import FakeServer, Handler

from server.cli.main import main


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeServer]:
    fake = FakeServer()
    handler = type("Bound", (Handler,), {"fake": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        fake.answers["GET /api/version"] = {"version": "0.11.0", "llamada": "0.1.0"}
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
        monkeypatch.setenv("LLAMADA_DATA_DIR", str(tmp_path / "data"))
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def llamada(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command; ``stdin`` is piped in (default: nothing)."""

    def run(*arguments: str, stdin: str = "") -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = main(arguments)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run
