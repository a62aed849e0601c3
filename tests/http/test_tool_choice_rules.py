"""What the hallway hands on of tools and thinking, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.errors import InvalidRequest
from server.inference import _tools
from server.types import ChatRequest, Message, ToolChoice

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def request(choice: ToolChoice, *tools: dict[str, Any]) -> ChatRequest:
    return ChatRequest("nano", (Message("user", "x"),), tools=tools, tool_choice=choice)


def test_none_shows_no_tools() -> None:
    assert _tools(request(ToolChoice("none"), TOOL)) == ()
    assert _tools(request(ToolChoice(), TOOL)) == (TOOL,)
    assert _tools(request(ToolChoice("required", "f"), TOOL)) == (TOOL,)


@pytest.mark.parametrize(
    ("choice", "tools", "text"),
    [(ToolChoice("required"), (), "no tools"), (ToolChoice("required", "g"), (TOOL,), '"g"')],
)
def test_what_cannot_be_called(choice: ToolChoice, tools: tuple[dict[str, Any], ...], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        _tools(request(choice, *tools))


@pytest.mark.parametrize(("think", "wanted", "budget"), [(7, True, 7), (0, False, 0), (True, True, -1)])
async def test_a_number_is_a_budget(client: Any, runner: Any, think: Any, wanted: bool, budget: int) -> None:
    body = {"model": "nano-tools", "messages": [{"role": "user", "content": "x"}], "think": think}
    async with client.post("/api/chat", data=json.dumps(body)) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
    generation = runner.generations[-1]
    assert generation.prompt.think is wanted
    assert generation.limits.think_budget == budget


async def test_a_budget_below_nothing_is_refused(client: Any) -> None:
    async with client.post("/api/chat", data='{"model": "nano-tools", "messages": [], "think": -1}') as answer:
        assert answer.status == 400
        assert "think must be" in await answer.text()
