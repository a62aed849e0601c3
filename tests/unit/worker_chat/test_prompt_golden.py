"""The prompts that real Ollama made of the golden requests, text and number of tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.types import ChatPrompt, Generation, LoadOptions, Message, TextPrompt
from server.worker.backends.llamacpp.model import Model
from server.worker.chat.prompt import PromptBuilder

GOLDEN = Path(__file__).parents[2] / "golden"
RECORDS = [json.loads(line) for line in (GOLDEN / "ollama-fb30760.jsonl").read_text().splitlines()]
CREATED = {
    body["model"]: body
    for record in RECORDS
    if record["request"]["path"] == "/api/create" and record["answer"]["status"] == 200
    for body in [record["request"]["body"]["json"]]
}


def asked(record: dict[str, Any]) -> dict[str, Any]:
    body = record["request"]["body"]
    return body.get("json") or {} if isinstance(body, dict) else {}


def answers(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record["answer"]["body"].splitlines()]


GENERATED = [r for r in RECORDS if r["request"]["path"] in ("/api/generate", "/api/chat")
             and r["request"]["method"] == "POST" and r["answer"]["status"] == 200]  # fmt: skip
RENDERED = [r for r in GENERATED if asked(r).get("_debug_render_only")]
COUNTED = [r for r in GENERATED if not asked(r).get("_debug_render_only") and "prompt_eval_count" in answers(r)[-1]]


def weights(model: str) -> Path:
    return GOLDEN / "models" / f"{CREATED.get(model, {}).get('from', model)}.gguf"


@pytest.fixture(scope="module")
def models() -> Iterator[dict[str, Model]]:
    loaded = {path.stem: Model(str(path), LoadOptions(), vocab_only=True) for path in (GOLDEN / "models").iterdir()}
    yield loaded
    for model in loaded.values():
        model.close()


def generation(request: dict[str, Any]) -> Generation:
    """As the server hands it to a worker: the model's SYSTEM and MESSAGE lines put in."""
    created = CREATED[request["model"]]
    history = tuple(Message(m["role"], m["content"]) for m in created.get("messages", ()))
    system = request.get("system") or created.get("system", "")
    if "messages" not in request:
        text = TextPrompt(
            request["prompt"], suffix=request.get("suffix", ""), system=system, raw=request.get("raw", False),
            history=history, think=request.get("think"),
        )  # fmt: skip
        return Generation(text, render_only=True)
    given = tuple(Message(m["role"].lower(), m.get("content", "")) for m in request["messages"])
    before = (Message("system", system),) if system and given[0].role != "system" else ()
    chat = ChatPrompt(before + history + given, tools=tuple(request.get("tools", ())), think=request.get("think"))
    return Generation(chat, render_only=True)


def build(models: dict[str, Model], request: dict[str, Any]) -> Any:
    model = models[weights(request["model"]).stem]
    template = CREATED[request["model"]].get("template")
    builder = PromptBuilder(model.vocabulary, go_template=template, jinja_template=model.chat_template)
    return builder.build(generation(request), 1024)


@pytest.mark.parametrize("record", RENDERED, ids=[r["name"] for r in RENDERED])
def test_the_text_is_ollamas(models: dict[str, Model], record: dict[str, Any]) -> None:
    (answer,) = answers(record)
    assert build(models, asked(record)).text == answer["_debug_info"]["rendered_template"]


@pytest.mark.parametrize("record", COUNTED, ids=[r["name"] for r in COUNTED])
def test_the_number_of_tokens_is_ollamas(models: dict[str, Model], record: dict[str, Any]) -> None:
    request = {key.lower(): value for key, value in asked(record).items()}
    prepared = build(models, request)
    last = answers(record)[-1]
    assert len(prepared.tokens) == last["prompt_eval_count"]
    assert prepared.truncated == 0
    if "context" in last:
        assert last["context"][: len(prepared.tokens)] == prepared.tokens


def test_an_answer_without_calls_is_content_though_tools_were_given(models: dict[str, Model]) -> None:
    (record,) = [r for r in COUNTED if asked(r).get("tools")]
    content = answers(record)[-1]["message"]["content"]
    parser = build(models, asked(record)).parser
    chunks = [chunk for character in content for chunk in parser.feed(character)] + parser.finish()
    assert "".join(chunk.content for chunk in chunks) == content
    assert not any(chunk.tool_calls for chunk in chunks)


def test_there_are_golden_requests() -> None:
    assert len(RENDERED) >= 10
    assert len(COUNTED) >= 15
