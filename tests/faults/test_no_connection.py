"""No connection leaves the machine: every address that the server or a child of it speaks to is seen by strace."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "tests" / "golden" / "models" / "nano-tools.gguf"
SERVE = (
    "import sys; from server.app import serve; from server.config import Config; sys.exit(serve(Config.load(), print))"
)
CALLS = "trace=connect,sendto,sendmsg,sendmmsg"
ADDRESS = re.compile(r"sa_family=AF_INET6?,.*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\"")
LOOPBACK = ("127.", "::1")
SCHEMA = {"type": "object", "properties": {"a": {"$ref": "http://schema.example/a"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
USER = {"role": "user", "content": "see http://pictures.example/a.png"}


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    """The beginning of a command line whose calls are written to ``trace``."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    command = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", CALLS, "-o", str(tmp_path / "trace")]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody trace")
    return command


@pytest.fixture
def url(strace: list[str], tmp_path: Path) -> Iterator[str]:
    environ = {"OLLAMA_HOST": "127.0.0.1:0", "LLAMADA_GUIDE": "1", "PYTHONUNBUFFERED": "1"}
    environ |= {"OLLAMA_MODELS": str(tmp_path / "models"), "LLAMADA_DATA_DIR": str(tmp_path / "data")}
    with subprocess.Popen(
        [*strace, sys.executable, "-c", SERVE],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environ},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def ask(url: str, path: str, body: Any = None, method: str | None = None) -> int:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, method=method), timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def addresses(trace: Path) -> set[str]:
    return {found[1] for line in trace.read_text("utf-8", "replace").splitlines() if (found := ADDRESS.search(line))}


def test_the_eye_sees(strace: list[str], tmp_path: Path) -> None:
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.7', 9))"
    subprocess.run([*strace, sys.executable, "-W", "ignore", "-c", code], check=False)
    assert addresses(tmp_path / "trace") == {"192.0.2.7"}


def test_no_connection_leaves_the_machine(url: str, tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(NANO.read_bytes()).hexdigest()}"
    few = {"num_predict": 3}
    assert ask(url, f"/api/blobs/{digest}", NANO.read_bytes()) == 201
    assert ask(url, "/api/create", {"model": "m", "files": {"m.gguf": digest}, "stream": False}) == 200
    assert ask(url, "/api/create", {"model": "n", "from": "m", "system": "s", "stream": False}) == 200
    for name in ("far.example/nobody/nothing", "10.0.0.1:5000/nobody/nothing", "169.254.169.254/a/b"):  # not listed
        assert ask(url, "/api/create", {"model": "o", "from": name, "stream": False}) == 403
        assert ask(url, "/api/pull", {"model": name, "insecure": True, "stream": False}) == 403
        assert ask(url, "/api/push", {"model": name, "insecure": True, "stream": False}) == 403
    assert ask(url, "/api/chat", {"model": "m", "messages": [USER], "tools": [TOOL], "options": few}) == 200
    assert ask(url, "/api/chat", {"model": "guide", "messages": [USER], "options": few}) == 200
    assert ask(url, "/api/generate", {"model": "m", "prompt": "x", "format": SCHEMA, "options": few}) == 400
    assert ask(url, "/api/generate", {"model": "m", "prompt": "x", "images": ["http://x.example/"]}) == 400
    assert ask(url, "/api/embed", {"model": "m", "input": "x"}) == 200
    assert ask(url, "/api/generate", {"model": "nobody/nothing", "prompt": "x"}) == 404
    assert ask(url, "/v1/chat/completions", {"model": "m", "messages": [USER], "max_tokens": 3}) == 200
    for path in ("/api/tags", "/api/ps", "/api/version", "/metrics", "/readyz", "/api/docs", "/v1/models"):
        assert ask(url, path) == 200, path
    assert ask(url, "/api/delete", {"model": "n"}, "DELETE") == 200
    assert [a for a in addresses(tmp_path / "trace") if not a.startswith(LOOPBACK)] == []
