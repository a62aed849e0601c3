from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import server.app
from server.cli.client import Client
from server.cli.errors import CliError, ServerDown
from server.cli.private import private_server, reachable
from server.cli.serve import welcome
from server.config import Config

Run = Callable[..., Any]


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, llamada: Run) -> None:
    seen: list[Config] = []

    def serve(config: Config, on_ready: Callable[[str], None]) -> int:
        seen.append(config)
        on_ready("http://127.0.0.1:11434")
        return 0

    monkeypatch.setattr(server.app, "serve", serve)
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "2")
    monkeypatch.setenv("OLLAMA_MAX_QUEUE", "9")
    result = llamada("start", "--num-parallel", "3", "--keep-alive", "10m")
    assert result.status == 0
    assert (seen[0].num_parallel, seen[0].max_queue, seen[0].keep_alive) == (3, 9, 600.0)
    assert "llamada 0.1.0 listens on http://127.0.0.1:11434" in result.err
    assert "--num-parallel='many'" in llamada("serve", "--num-parallel", "many").err


def test_the_welcome_can_be_typed_as_it_stands() -> None:
    config = Config.load({})
    assert "OLLAMA_HOST" not in welcome("http://127.0.0.1:11434", config)
    assert "\n  OLLAMA_HOST=127.0.0.1:11500 " in welcome("http://127.0.0.1:11500", config)


def test_no_private_server_stands_in_for_one_elsewhere() -> None:
    with pytest.raises(ServerDown), reachable(Config.load({"OLLAMA_HOST": "256.256.256.256:1"})):
        raise AssertionError("somebody answered")


def test_a_private_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MAX_QUEUE", "many")
    with pytest.raises(CliError, match="OLLAMA_MAX_QUEUE"), private_server():
        raise AssertionError("it started")


def test_a_private_server_ends_with_its_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    monkeypatch.setenv("LLAMADA_DATA_DIR", str(tmp_path / "data"))
    with private_server() as address:
        client = Client(address)
        assert client.alive()
    assert not client.alive()
