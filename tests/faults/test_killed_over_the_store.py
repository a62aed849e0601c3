"""The server is killed in the middle of create, copy and delete: what is on disk is sound, and the next one starts."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from server.store import fsck
from server.store.library import Library

ROOT = Path(__file__).resolve().parents[2]
NANO = (ROOT / "tests" / "golden" / "models" / "nano.gguf").read_bytes()
DIGEST = f"sha256:{hashlib.sha256(NANO).hexdigest()}"
SERVE = (
    "import sys; from server.app import serve; from server.config import Config; sys.exit(serve(Config.load(), print))"
)


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    environ = {"OLLAMA_HOST": "127.0.0.1:0", "LLAMADA_GUIDE": "0", "PYTHONUNBUFFERED": "1"}
    environ |= {"OLLAMA_MODELS": str(folder / "models"), "LLAMADA_DATA_DIR": str(folder / "data")}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environ},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def ask(url: str, path: str, body: Any, method: str = "POST") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data, method=method), timeout=10) as answer:
        return bytes(answer.read())


def work(url: str) -> None:
    """Writes, overwrites, copies and deletes until nobody answers any more."""
    for turn in range(1000):
        name = {"model": f"m{turn % 3}"}
        tasks: list[tuple[str, Any, str]] = [
            (f"/api/blobs/{DIGEST}", NANO, "POST"),
            ("/api/create", {**name, "files": {"nano.gguf": DIGEST}, "system": f"s{turn}", "stream": False}, "POST"),
            ("/api/copy", {"source": "base", "destination": f"m{(turn + 1) % 3}"}, "POST"),
            ("/api/create", {**name, "from": "base", "template": f"{turn}", "stream": False}, "POST"),
            ("/api/delete", {"model": f"m{(turn + 2) % 3}"}, "DELETE"),
        ]
        for path, body, method in tasks:
            try:
                ask(url, path, body, method)
            except urllib.error.HTTPError as error:
                error.close()
            except (OSError, http.client.HTTPException):
                return


def test_a_killed_server_leaves_a_sound_store(tmp_path: Path) -> None:
    dice = random.Random(4)
    process, url = start(tmp_path)
    try:
        ask(url, f"/api/blobs/{DIGEST}", NANO)
        ask(url, "/api/create", {"model": "base", "files": {"nano.gguf": DIGEST}, "stream": False})
        for _ in range(5):
            workers = [threading.Thread(target=work, args=(url,)) for _ in range(2)]
            for worker in workers:
                worker.start()
            time.sleep(dice.uniform(0.05, 0.4))
            process.kill()
            process.communicate()
            for worker in workers:
                worker.join()
            report = fsck.check(tmp_path / "models")
            assert report.sound, report.problems
            assert Library(tmp_path / "models").resolve("base").weights.is_file()
            process, url = start(tmp_path)
            assert b"base:latest" in urllib.request.urlopen(url + "/api/tags", timeout=10).read()
    finally:
        process.kill()
        process.communicate()
