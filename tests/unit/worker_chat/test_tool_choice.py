"""Tool calls and thinking of a real model with random weights: what it must say, it says validly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from server.errors import Unsupported
from server.messages import Load
from server.types import (
    ChatPrompt,
    Chunk,
    Final,
    Generation,
    Limits,
    LoadOptions,
    Message,
    Sampling,
    ToolCall,
    ToolChoice,
)  # fmt: skip
from server.worker.answer import TextAnswer
from server.worker.chat.formats.rows import BY_NAME
from server.worker.chat.formats.trigger import trigger
from server.worker.chat.output import OutputParser
from server.worker.loader import Room, load_room

MODEL = Path(__file__).parents[2] / "golden" / "models" / "nano-tools.gguf"
CITY = {"type": "string", "maxLength": 6}
TOOLS: tuple[dict[str, Any], ...] = tuple(
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {
        "city": CITY, "days": {"type": "integer", "minimum": 1, "maximum": 7}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "days"]}}}
    for name in ("get_weather", "get_climate")
)  # fmt: skip


@dataclass
class Desk:
    """A loaded model, and what it said."""

    room: Room
    chunks: dict[int, list[Chunk]]
    failures: dict[int, str]
    count: int = 0

    def ask(self, generation: Generation) -> tuple[list[Chunk], Final]:
        self.count += 1
        assert self.room.engine is not None
        prepared = self.room.prepare(generation)
        self.room.engine.submit(self.room.sequence(self.count, generation, prepared))
        while self.room.engine.busy:
            self.room.engine.step()
        assert self.count not in self.failures, self.failures[self.count]
        said = self.chunks.pop(self.count)
        assert said[-1].final is not None
        return said, said[-1].final


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    chunks: dict[int, list[Chunk]] = {}
    failures: dict[int, str] = {}

    def emit(pieces: list[tuple[int, Chunk]]) -> None:
        for number, chunk in pieces:
            chunks.setdefault(number, []).append(chunk)

    options = LoadOptions(num_ctx=2048, num_thread=1, num_parallel=1)
    room, _ = load_room(Load(str(MODEL), options), emit, failures.__setitem__, lambda fraction: None)
    yield Desk(room, chunks, failures)
    room.close()


def asked(choice: ToolChoice, *, seed: int = 1, think: bool = False, **given: Any) -> Generation:
    prompt = ChatPrompt((Message("user", "weather?"),), TOOLS, choice, think)
    limits = Limits(num_predict=600, think_budget=given.pop("think_budget", -1))
    return Generation(prompt, Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=seed), limits, **given)


def called(chunks: list[Chunk]) -> list[ToolCall]:
    return [call for chunk in chunks for call in chunk.tool_calls]


def content(chunks: list[Chunk]) -> str:
    return "".join(chunk.content for chunk in chunks)


def valid(call: ToolCall) -> bool:
    given = dict(call.arguments)
    city, days, unit = given.pop("city"), given.pop("days"), given.pop("unit", "C")
    return not given and isinstance(city, str) and len(city) <= 6 and days in range(1, 8) and unit in ("C", "F")


@pytest.mark.parametrize("seed", range(4))
def test_a_required_call_is_made_and_valid(desk: Desk, seed: int) -> None:
    chunks, final = desk.ask(asked(ToolChoice("required", parallel=False), seed=seed))
    (call,) = called(chunks)
    assert valid(call)
    assert call.name in ("get_weather", "get_climate")
    assert content(chunks).strip() == ""
    assert final.reason == "stop"


def test_the_named_tool_is_called(desk: Desk) -> None:
    for seed in range(3):
        chunks, _ = desk.ask(asked(ToolChoice("required", "get_climate", parallel=False), seed=seed))
        assert [call.name for call in called(chunks)] == ["get_climate"]


EVERY_KIND = ("qwen3-coder", "deepseek-r1", "command-r7b", "apertus", "lfm2", "gemma4", "llama3", "glm", "gpt-oss")


@pytest.mark.parametrize("row", EVERY_KIND)
def test_in_every_kind_of_format(desk: Desk, row: str) -> None:
    generation = asked(ToolChoice("required", parallel=False), seed=5)
    prepared = desk.room.prepare(generation)
    assert prepared.calls is not None
    plan = replace(prepared.calls, row=BY_NAME[row])
    from server.worker.chat.prompt import _output_parser

    parser = _output_parser(None, plan.row, plan, inside=False)
    assert desk.room.engine is not None
    desk.count += 1
    ready = replace(prepared, calls=plan, parser=parser)
    desk.room.engine.submit(desk.room.sequence(desk.count, generation, ready))
    while desk.room.engine.busy:
        desk.room.engine.step()
    chunks = desk.chunks.pop(desk.count)
    (call,) = called(chunks)
    assert valid(call), call
    assert content(chunks).strip() == ""


def test_no_tools_are_no_tools(desk: Desk) -> None:
    prepared = desk.room.prepare(replace(asked(ToolChoice()), prompt=ChatPrompt((Message("user", "hi"),))))
    assert prepared.calls is None
    assert "get_weather" not in prepared.text


def test_a_model_whose_parser_passes_everything_through_cannot_be_made_to_call(desk: Desk) -> None:
    with pytest.raises(Unsupported, match="no tool"):
        desk.room.prepare(asked(ToolChoice("required"), parser="passthrough"))


def test_a_format_is_an_answer_of_its_own_beside_calls(desk: Desk) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["n"]}
    chunks, final = desk.ask(asked(ToolChoice(parallel=False), format=schema))
    assert final.reason == "stop"
    assert all(valid(call) for call in called(chunks))
    assert called(chunks) or content(chunks).strip().startswith("{")


def test_a_constraint_begins_with_the_call(desk: Desk) -> None:
    vocabulary = desk.room.model.vocabulary

    def tokenize(text: str) -> list[int]:
        return vocabulary.tokenize(text, add_special=False, parse_special=True)

    row = BY_NAME["hermes"]
    answer = TextAnswer(vocabulary.piece, (), OutputParser(), tokenize=tokenize, trigger=trigger(row, []))
    bindings = []
    for token in tokenize('Let me see. <tool_call>\n{"name"'):
        bindings.append(answer.binding(token))
        answer.feed(token, None)
    first = next(n for n, binding in enumerate(bindings) if binding is not None)
    assert bindings[:first] == [None] * first
    assert bytes(b"".join(vocabulary.piece(token) for token in bindings[first] or [])).startswith(b"<tool_call>")
    assert all(binding is not None and len(binding) == 1 for binding in bindings[first + 1 :])


def test_thinking_ends_when_its_budget_is_spent(desk: Desk) -> None:
    talk = (Message("user", "hi"), Message("assistant", thinking="So"))
    free = Generation(ChatPrompt(talk, think=True), Sampling(seed=3), Limits(num_predict=40))
    _, final = desk.ask(free)
    assert final.thinking_tokens == final.output_tokens == 40
    bounded = replace(free, limits=Limits(num_predict=40, think_budget=8))
    chunks, final = desk.ask(bounded)
    ending = len(desk.room.model.vocabulary.tokenize("\n</think>\n\n", add_special=False, parse_special=True))
    assert 8 <= final.thinking_tokens <= 8 + ending
    assert "".join(chunk.thinking for chunk in chunks).strip()
    assert content(chunks)


def test_a_format_holds_behind_a_thought_that_was_cut_short(desk: Desk) -> None:
    talk = (Message("user", "hi"), Message("assistant", thinking="So"))
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["n"]}
    generation = Generation(
        ChatPrompt(talk, think=True), Sampling(seed=3), Limits(num_predict=200, think_budget=5), format=schema
    )
    chunks, final = desk.ask(generation)
    assert final.reason == "stop"
    assert content(chunks).strip().startswith("{")
    assert content(chunks).strip().endswith("}")
