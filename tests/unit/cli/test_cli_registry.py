"""`pull`, `push`, and `run` of a model that is not there, against a server of canned answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_ollama import FakeServer
from rich.console import Console

from server.cli.progress import Bars

Run = Callable[..., Any]
LAYER = {"status": "pulling 0d2eb933ee3a", "digest": "sha256:0d2eb933ee3a", "total": 2_019_377_376}
PULLED: list[dict[str, Any]] = [
    {"status": "pulling manifest"},
    LAYER,
    {**LAYER, "completed": 868_332_272},
    {**LAYER, "completed": 2_019_377_376},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
]


def test_pull_shows_each_step_once(fake: FakeServer, llamada: Run) -> None:
    fake.answers["POST /api/pull"] = PULLED
    result = llamada("pull", "llama3.2", "--insecure")
    assert result.status == 0
    assert fake.bodies("POST /api/pull") == [{"model": "llama3.2", "insecure": True}]
    steps = [piece["status"] for piece in PULLED]
    assert result.err.splitlines() == list(dict.fromkeys(steps))


def test_json_is_a_line_for_each_object(fake: FakeServer, llamada: Run) -> None:
    fake.answers["POST /api/pull"] = PULLED
    assert [json.loads(line) for line in llamada("pull", "x", "--json").out.splitlines()] == PULLED


def test_an_error_in_the_stream_is_one_line(fake: FakeServer, llamada: Run) -> None:
    fake.answers["POST /api/pull"] = [PULLED[0], {"error": "pull model manifest: file does not exist"}]
    result = llamada("pull", "nothing")
    assert (result.status, result.err.splitlines()[-1]) == (1, "Error: pull model manifest: file does not exist")
    fake.answers["POST /api/pull"] = PULLED[:3]
    assert "goes on where it stopped" in llamada("pull", "nothing").err


def test_push_says_whose_namespace_it_is(fake: FakeServer, llamada: Run) -> None:
    fake.answers["POST /api/push"] = [{"status": "retrieving manifest"}, {"error": "unauthorized: access denied"}]
    result = llamada("push", "them/model")
    assert result.err.endswith(
        "Error: you are not authorized to push to this namespace, create the model under a namespace you own\n"
    )


def test_run_pulls_what_is_not_there(fake: FakeServer, llamada: Run) -> None:
    there: list[bool] = []

    def show(_: Any) -> Any:
        return {"capabilities": ["completion"]} if there else (404, {"error": "model 'far:latest' not found"})

    def pull(_: Any) -> Any:
        there.append(True)
        return PULLED

    fake.answers |= {"POST /api/show": show, "POST /api/pull": pull}
    fake.answers["POST /api/generate"] = [{"response": "hello", "done": True}]
    result = llamada("run", "far", "hi")
    assert (result.status, result.out.strip()) == (0, "hello")


def test_run_of_what_is_nowhere_says_what_else_to_do(fake: FakeServer, llamada: Run) -> None:
    fake.answers["POST /api/show"] = (404, {"error": "model 'far:latest' not found"})
    fake.answers["POST /api/pull"] = [{"status": "pulling manifest"}, {"error": "pull model manifest: no such host"}]
    result = llamada("run", "far", "hi")
    assert result.status == 1
    assert "no such host" in result.err
    assert "llamada create far" in result.err


def test_bars_look_like_ollamas(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars()
    bars._progress.live.console = Console(file=io.StringIO(), width=100, force_terminal=True)
    for piece in PULLED[:3]:
        bars.follow(piece)
    console = Console(file=io.StringIO(), width=100)
    console.print(bars._progress.get_renderable())
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip() == "pulling manifest"
    assert lines[1].startswith("pulling 0d2eb933ee3a:  43% ▕██████████▎             ▏ 868 MB/2.0 GB")
