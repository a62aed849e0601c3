"""The servers under test, started and ended by us, with the memory and the processor time of their processes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmark.client import PATHS, Client

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Server:
    """A running server. ``flags`` names the setting it was started with."""

    name: str
    flags: str
    client: Client
    process: subprocess.Popen[bytes] | None
    """None for a server that somebody else started."""
    started: float

    def tree(self) -> list[psutil.Process]:
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def resident(self) -> float:
        """Bytes of resident memory of the server and its workers."""
        return float(sum(p.memory_info().rss for p in self.tree()))

    def cpu(self) -> float:
        """Seconds of processor time of the first process alone (ours: everything but the worker)."""
        assert self.process is not None
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], path: str, limit: float = 120) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with code {process.returncode}; see its log")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2):
            return
        time.sleep(0.01)
    raise SystemExit("the server does not answer")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def llama_server(binary: Path, model: Path, flags: str, log: Path) -> Iterator[Server]:
    """llama-server with ``flags``, which must hold ``-np N`` (2560 cells of context per slot)."""
    port, words = free_port(), flags.split()
    slots = int(words[words.index("-np") + 1])
    command = [str(binary), "-m", str(model), "-t", "2", "-tb", "2", "-c", str(2560 * slots), "--port", str(port)]
    begun = time.perf_counter()
    with open(log, "ab") as output:
        process = subprocess.Popen([*command, *words], stdout=output, stderr=output)
    try:
        _wait(port, process, "/health")
        yield Server("llama-server", flags, Client("127.0.0.1", port, "llama"), process, begun)
    finally:
        _end(process)


@contextlib.contextmanager
def llama_cpp_python(python: Path, model: Path, log: Path) -> Iterator[Server]:
    """``python -m llama_cpp.server`` with its defaults but for the window, in a Python that has its extra `server`."""
    port = free_port()
    command = [str(python), "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", "4096", "--port", str(port)]
    begun = time.perf_counter()
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait(port, process, "/v1/models")
        yield Server("llama_cpp.server", "", Client("127.0.0.1", port, "openai", model.stem), process, begun)
    finally:
        _end(process)


def running(text: str) -> Server:
    """A server that runs already: ``KIND=URL/MODEL``, KIND one of ollama, llama (llama-server) and openai."""
    kind, _, address = text.partition("=")
    url = urllib.parse.urlsplit(address)
    if kind not in PATHS or not url.hostname or not url.port:
        raise SystemExit(f"--server {text}: write it as KIND=http://HOST:PORT/MODEL, KIND one of {', '.join(PATHS)}")
    client = Client(url.hostname, url.port, kind, url.path.lstrip("/"))
    return Server(f"{kind} at {url.netloc}", "", client, None, time.perf_counter())


@contextlib.contextmanager
def llamada(
    models: list[Path],
    log: Path,
    environment: dict[str, str] | None = None,
    *,
    folder: Path | None = None,
    name: str = "",
) -> Iterator[Server]:
    """Our server with its default setting, the files created as models named by their stems.

    ``folder`` keeps the store; ``name`` is the model to ask where none is created.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as own:
        folder = folder or Path(own)
        settings = {
            "OLLAMA_HOST": f"127.0.0.1:{port}",
            "OLLAMA_MODELS": f"{folder}/models",
            "LLAMADA_DATA_DIR": f"{folder}/data",
            "LLAMADA_GUIDE": "0",
            **(environment or {}),
        }
        begun = time.perf_counter()
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [str(ROOT / ".venv" / "bin" / "llamada"), "serve"],
                env={**os.environ, **settings},
                stdout=output,
                stderr=output,
            )
        try:
            _wait(port, process, "/api/version")
            for model in models:
                create(port, model)
            asked = name or models[0].stem
            yield Server("llamada", "default", Client("127.0.0.1", port, "ollama", asked), process, begun)
        finally:
            _end(process)


def post(port: int, path: str, body: object, method: str = "POST") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=600) as answer:
        return bytes(answer.read())


def create(port: int, model: Path) -> None:
    content = model.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    post(port, f"/api/blobs/{digest}", content)
    post(port, "/api/create", {"model": model.stem, "files": {model.name: digest}, "stream": False})


def unload(server: Server) -> None:
    post(server.client.port, "/api/generate", {"model": server.client.model, "keep_alive": 0})
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.client.port}/api/ps", timeout=10) as answer:
            if not json.load(answer)["models"]:
                return
        time.sleep(0.02)
    raise SystemExit("the model does not leave")


async def settle() -> None:
    """Lets the processor come to rest between measurements."""
    await asyncio.sleep(0.3)
