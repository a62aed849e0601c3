"""The command line against a real server with real models, from the shell's side."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.cli.private import private_server

MODELS = Path(__file__).parents[1] / "golden/models"
LLAMADA = [sys.executable, "-m", "server"]
# Makes its standard input the terminal of a session of its own, so that Ctrl-C there becomes a signal.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("cli")
    variables = {"OLLAMA_MODELS": str(folder / "models"), "LLAMADA_DATA_DIR": str(folder / "data")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with private_server() as address:
            yield os.environ | {"OLLAMA_HOST": address.url, "TERM": "dumb"}


def llamada(environment: dict[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [*LLAMADA, *arguments]
    return subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_model_from_making_to_removing(environment: dict[str, str], tmp_path: Path) -> None:
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {MODELS / 'nano.gguf'}\nPARAMETER temperature 0\nPARAMETER num_predict 8\nSYSTEM Hi.\n")
    made = llamada(environment, "create", "mine", "-f", str(modelfile))
    assert made.returncode == 0, made.stderr
    assert made.stderr.splitlines()[-1] == "success"

    assert "mine:latest" in llamada(environment, "list", "mi").stdout
    shown = json.loads(llamada(environment, "show", "mine", "--json").stdout)
    assert (shown["system"], "temperature" in shown["parameters"]) == ("Hi.", True)

    answer = json.loads(llamada(environment, "run", "mine", "hello", "--json").stdout)
    assert (answer["done"], answer["eval_count"]) == (True, 8)
    assert "mine:latest" in llamada(environment, "ps").stdout
    assert llamada(environment, "stop", "mine").returncode == 0
    assert "mine" not in llamada(environment, "ps").stdout

    assert llamada(environment, "cp", "mine", "yours").stdout == "copied 'mine' to 'yours'\n"
    assert llamada(environment, "rm", "mine", "yours").stdout == "deleted 'mine'\ndeleted 'yours'\n"
    assert llamada(environment, "rm", "mine").stderr == "Error: model 'mine' not found\n"


def test_a_gguf_alone_is_enough_and_comes_into_the_shared_store(environment: dict[str, str]) -> None:
    made = llamada(environment, "create", "bare", "-f", str(MODELS / "nano-bare.gguf"))
    assert made.returncode == 0, made.stderr
    assert "copying nano-bare.gguf" in made.stderr
    assert llamada(environment, "rm", "bare").returncode == 0


def test_an_embedding_model_prints_numbers(environment: dict[str, str]) -> None:
    assert llamada(environment, "create", "embedder", "-f", str(MODELS / "nano-embed.gguf")).returncode == 0
    numbers = json.loads(llamada(environment, "run", "embedder", "some text").stdout)
    assert sum(x * x for x in numbers) == pytest.approx(1, abs=1e-4)


def test_bench_doctor_and_fsck(environment: dict[str, str]) -> None:
    arguments = ("bench", "guide", "--clients", "1,2", "--tokens", "8", "--repeat", "1", "--json")
    measured = json.loads(llamada(environment, *arguments).stdout)
    assert [(r["clients"], r["tokens"]) for r in measured["rounds"]] == [(1, 8), (2, 16)]
    checked = llamada(environment, "doctor")
    assert checked.returncode == 0, checked.stdout
    assert "answers at" in checked.stdout
    found = llamada(environment, "fsck")
    assert found.returncode == 0, found.stdout


def test_run_without_a_server_brings_its_own(environment: dict[str, str]) -> None:
    alone = environment | {"OLLAMA_HOST": "127.0.0.1:1"}
    done = llamada(alone, "run", "guide", "hello", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["response"]
    assert done.stderr.startswith("No server at http://127.0.0.1:1; starting one for this command.")


def test_a_conversation_in_a_terminal(environment: dict[str, str]) -> None:
    """Readline, the history and Ctrl-C, through a pseudo terminal."""
    parent, child = pty.openpty()
    command = [sys.executable, "-c", IN_A_TERMINAL, *LLAMADA, "run", "guide"]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    try:
        assert ">>> " in read_until(parent, ">>> ")
        os.write(parent, b"/set parameter num_predict 4\n")
        assert "Set parameter 'num_predict' to '4'" in read_until(parent, ">>> ", 1)
        os.write(parent, b"hello\n")
        read_until(parent, ">>> ", 1)
        os.write(parent, b"\x03")
        assert "Use Ctrl + d or /bye to exit." in read_until(parent, ">>> ", 1)
        os.write(parent, b"/bye\n")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    history = Path(environment["LLAMADA_DATA_DIR"]) / "history"
    assert history.read_text().splitlines()[-3:] == ["/set parameter num_predict 4", "hello", "/bye"]


def read_until(terminal: int, mark: str, after: int = 0, seconds: float = 30) -> str:
    """What the terminal shows, until ``mark`` has come behind the echo of what was typed (``after`` lines)."""
    text, deadline = "", time.monotonic() + seconds
    while time.monotonic() < deadline:
        if text.count("\n") > after and text.rstrip("\x00").endswith(mark):
            return text
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 4096).decode("utf-8", "replace")
    raise AssertionError(f"no {mark!r} in {text!r}")
