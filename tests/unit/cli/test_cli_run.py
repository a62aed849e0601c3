from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeServer

Run = Callable[..., Any]
PNG = b"\x89PNG\r\n"
FINAL = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 1_234_500_000,
    "load_duration": 12_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 130_000_000,
    "eval_count": 3,
    "eval_duration": 50_000_000,
}


def generate(*pieces: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"model": "m", "response": "", "done": False} | piece for piece in pieces] + [{"response": ""} | FINAL]


@pytest.fixture
def model(fake: FakeServer) -> FakeServer:
    fake.answers["POST /api/show"] = {"capabilities": ["completion"], "details": {}, "model_info": {}}
    fake.answers["POST /api/generate"] = generate({"response": "Hel"}, {"response": "lo"})
    return fake


def thinks(fake: FakeServer) -> None:
    fake.answers["POST /api/show"] = {"capabilities": ["completion", "thinking"]}
    fake.answers["POST /api/generate"] = generate({"thinking": "hm"}, {"response": "Yes"})


def asked(fake: FakeServer) -> dict[str, Any]:
    body = fake.bodies("POST /api/generate")[-1]
    assert isinstance(body, dict)
    return body


def test_a_prompt_is_answered_once(model: FakeServer, llamada: Run) -> None:
    result = llamada("run", "m", "Say", "hello")
    assert (result.status, result.out, result.err) == (0, "Hello\n\n", "")
    assert asked(model) == {"model": "m", "prompt": "Say hello", "options": {}}


def test_what_is_piped_in_comes_before_the_prompt(model: FakeServer, llamada: Run) -> None:
    llamada("run", "m", "Summarize", stdin="a long text\n")
    assert asked(model)["prompt"] == "a long text\n Summarize"
    llamada("run", "m", stdin="only this")
    assert asked(model)["prompt"] == "only this"


def test_format_is_a_word_or_a_schema(model: FakeServer, llamada: Run) -> None:
    llamada("run", "m", "x", "--format", "json")
    assert asked(model)["format"] == "json"
    llamada("run", "m", "x", "--format", '{"type": "object"}')
    assert asked(model)["format"] == {"type": "object"}
    assert llamada("run", "m", "x", "--format", "yaml").err == "Error: --format takes json or a JSON schema\n"


def test_keepalive_is_checked_and_sent(model: FakeServer, llamada: Run) -> None:
    llamada("run", "m", "x", "--keepalive", "10m")
    assert asked(model)["keep_alive"] == "10m"
    assert "Error: --keepalive: time: " in llamada("run", "m", "x", "--keepalive", "soon").err


def test_verbose_adds_the_statistics(model: FakeServer, llamada: Run) -> None:
    assert llamada("run", "m", "x", "--verbose").err == (
        "total duration:       1.2345s\n"
        "load duration:        12ms\n"
        "prompt eval count:    26 token(s)\n"
        "prompt eval duration: 130ms\n"
        "prompt eval rate:     200.00 tokens/s\n"
        "eval count:           3 token(s)\n"
        "eval duration:        50ms\n"
        "eval rate:            60.00 tokens/s\n"
    )


def test_a_model_that_can_think_is_asked_to(fake: FakeServer, llamada: Run) -> None:
    thinks(fake)
    assert llamada("run", "m", "x").out == "Thinking...\nhm\n...done thinking.\n\nYes\n\n"
    assert asked(fake)["think"] is True
    assert llamada("run", "m", "x", "--hidethinking").out == "Yes\n\n"


@pytest.mark.parametrize(("flag", "value"), [("--think", True), ("--think=false", False), ("--think=high", "high")])
def test_think_takes_a_level_but_not_the_prompt(fake: FakeServer, llamada: Run, flag: str, value: object) -> None:
    thinks(fake)
    llamada("run", "m", flag, "why?")
    assert (asked(fake)["think"], asked(fake)["prompt"]) == (value, "why?")


def test_thinking_that_a_model_cannot_do_is_said(model: FakeServer, llamada: Run) -> None:
    result = llamada("run", "m", "x", "--think")
    assert result.err == 'warning: model "m" does not support thinking output\n'
    assert "think" not in asked(model)
    assert llamada("run", "m", "x", "--think=loud").status == 1


def test_an_image_named_in_the_prompt_goes_along(model: FakeServer, llamada: Run, tmp_path: Path) -> None:
    model.answers["POST /api/show"] = {"capabilities": ["completion", "vision"]}
    path = tmp_path / "a b.png"
    path.write_bytes(PNG)
    escaped = str(path).replace(" ", r"\ ")
    result = llamada("run", "m", f"What is {escaped} ? And /no/such.png")
    assert result.err == f"Added image '{path}'\n"
    assert asked(model)["images"] == ["iVBORw0K"]
    assert asked(model)["prompt"] == "What is  ? And /no/such.png"


def test_paths_stay_text_where_the_model_sees_nothing(model: FakeServer, llamada: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    llamada("run", "m", f"{tmp_path}/a.png")
    assert asked(model)["prompt"] == f"{tmp_path}/a.png"


def test_an_embedding_model_prints_its_numbers(fake: FakeServer, llamada: Run) -> None:
    fake.answers["POST /api/show"] = {"capabilities": ["embedding"]}
    fake.answers["POST /api/embed"] = {"embeddings": [[0.5, -0.25]]}
    assert llamada("run", "e", "text", "--dimensions", "2", "--truncate=false").out == "[0.5, -0.25]\n"
    assert fake.bodies("POST /api/embed") == [{"model": "e", "input": "text", "truncate": False, "dimensions": 2}]
    assert "embedding models require input text" in llamada("run", "e").err


def test_json_is_one_object(model: FakeServer, llamada: Run) -> None:
    model.answers["POST /api/generate"] = {"response": "Hello", "done": True}
    assert json.loads(llamada("run", "m", "x", "--json").out) == {"response": "Hello", "done": True}
    assert asked(model)["stream"] is False


def test_an_error_in_the_middle_of_an_answer_ends_it(model: FakeServer, llamada: Run) -> None:
    model.answers["POST /api/generate"] = [{"response": "Hel", "done": False}, {"error": "the worker died"}]
    result = llamada("run", "m", "x")
    assert (result.status, result.out, result.err) == (1, "Hel", "Error: the worker died\n")
