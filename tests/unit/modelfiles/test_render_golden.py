"""Every prompt that real Ollama showed, rendered again from the same models and requests, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelfiles.gguf import read_header
from modelfiles.known_templates import autodetect
from modelfiles.render import capabilities, choose, render_chat, render_completion

GOLDEN = Path(__file__).parents[2] / "golden"
RECORDS = [json.loads(line) for line in (GOLDEN / "ollama-fb30760.jsonl").read_text().splitlines()]
RENDERS = [r for r in RECORDS if "rendered_template" in r["answer"]["body"]]


def created() -> dict[str, dict[str, Any]]:
    """What the create requests make of each model: its templates, SYSTEM and MESSAGEs."""
    models: dict[str, dict[str, Any]] = {}
    for record in RECORDS:
        if record["request"]["path"] != "/api/create" or record["answer"]["status"] != 200:
            continue
        body = record["request"]["body"]["json"]
        model: dict[str, Any] = {"go": None, "jinja": None, "system": "", "messages": []}
        if "from" in body:
            model |= models[body["from"]]
        else:
            model["jinja"] = read_header(GOLDEN / "models" / next(iter(body["files"]))).chat_template
            found = autodetect(model["jinja"]) if model["jinja"] else None
            said = f"using autodetected template {found[0]}" if found else ""
            assert ("autodetected" in record["answer"]["body"]) == bool(found)
            assert said in record["answer"]["body"]
            model["go"] = found[1] if found else None
        model |= {{"template": "go"}.get(k, k): v for k, v in body.items() if k in ("template", "system", "messages")}
        models[body["model"]] = model
    return models


@pytest.mark.parametrize("record", RENDERS, ids=[r["name"] for r in RENDERS])
def test_rendered_as_by_ollama(record: dict[str, Any]) -> None:
    body = record["request"]["body"]["json"]
    model = created()[body["model"]]
    kind = choose(model["go"], model["jinja"])
    source = model["go"] if kind == "go" else model["jinja"]
    if record["request"]["path"] == "/api/chat":
        messages = [*model["messages"], *body["messages"]]
        if model["system"] and body["messages"][0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": model["system"]})
        text = render_chat(source, kind, messages, body.get("tools", ()))
    else:
        system = body.get("system", model["system"])
        suffix = body.get("suffix", "")
        text = render_completion(source, kind, body["prompt"], suffix=suffix, system=system, history=model["messages"])
    assert text == json.loads(record["answer"]["body"])["_debug_info"]["rendered_template"]


def test_all_of_them_are_here() -> None:
    assert len(RENDERS) == 11


@pytest.mark.parametrize("record", [r for r in RECORDS if r["request"]["path"] == "/api/show"], ids=lambda r: r["name"])
def test_shown_as_by_ollama(record: dict[str, Any]) -> None:
    answer = json.loads(record["answer"]["body"])
    model = created()[record["request"]["body"]["json"]["model"]]
    assert answer["template"] == model["go"]
    assert {"completion"} | capabilities(model["go"], model["jinja"]) == set(answer["capabilities"])


def test_autodetected_template_and_stops() -> None:
    shown = next(json.loads(r["answer"]["body"]) for r in RECORDS if r["name"] == "show verbose")
    jinja = read_header(GOLDEN / "models" / "nano.gguf").chat_template
    assert jinja is not None
    assert autodetect(jinja) == ("chatml", shown["template"], {"stop": ["<|im_start|>", "<|im_end|>"]})


def test_tools_are_written_as_ollama_writes_them() -> None:
    """The real server counted 168 tokens for this prompt of nano-tools; this text has as many."""
    record = next(r for r in RECORDS if r["name"] == "chat: tools nano-tools")
    body = record["request"]["body"]["json"]
    jinja = created()["nano-tools"]["jinja"]
    assert render_chat(jinja, "jinja", body["messages"], body["tools"], think=True) == (
        '<|im_start|>system\n# Tools\n{"type": "function", "function": {"name": "get_weather", "description": '
        '"Weather in a city", "parameters": {"type": "object", "required": ["city"], "properties": {"city": '
        '{"type": "string", "description": "The city"}}}}}\n<|im_end|>\n'
        "<|im_start|>user\nweather?<|im_end|>\n<|im_start|>assistant\n"
    )
