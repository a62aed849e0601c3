"""What a template writes for calls of tools: a conversation rendered with them, and once more without.

Runs the template; only a model's own process may call this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from modelfiles import render_go
from modelfiles.conversation import Message, complete
from modelfiles.errors import TemplateError
from modelfiles.jinja import ChatTemplate
from modelfiles.jinja_probe import SHORT_ID, abilities, adapt

SAID = "ZZZ"
CALLS = (("get_weather", {"city": "Paris", "days": "three"}), ("get_time", {"zone": "Rome"}))
"""The calls that are asked for; a template that can say one only is asked for the first."""


def _tool(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": "P"} for key in arguments}
    parameters = {"type": "object", "properties": properties, "required": list(arguments)}
    return {"type": "function", "function": {"name": name, "description": "D", "parameters": parameters}}


TOOLS = [_tool(name, arguments) for name, arguments in CALLS]


@lru_cache(maxsize=128)
def written_calls(source: str, kind: Literal["go", "jinja"], count: int = 2) -> str:
    """The text in place of an answer's words for the first ``count`` of ``CALLS``; "" where they cannot be said."""
    calls = [
        {"id": f"{SHORT_ID[:-1]}{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(CALLS[:count])
    ]
    with contextlib.suppress(TemplateError):
        called = _rendered(source, kind, {"role": "assistant", "content": "", "tool_calls": calls})
        text = _difference(called, _rendered(source, kind, {"role": "assistant", "content": SAID}))
        if all(name in text for name, _ in CALLS[:count]):
            return text
    return ""


def shows_tools(source: str, kind: Literal["go", "jinja"]) -> bool:
    """Tools that are offered are told to the model."""
    question: Message = {"role": "user", "content": "U"}
    with contextlib.suppress(TemplateError):
        return all(name in _render(source, kind, [question]) for name, _ in CALLS)
    return True  # it may need what a probe has not


def _rendered(source: str, kind: str, answer: Message) -> str:
    return _render(source, kind, [{"role": "user", "content": "U"}, answer])


def _render(source: str, kind: str, messages: Sequence[Message]) -> str:
    if kind == "go":
        return render_go.render_chat(source, complete(messages), TOOLS, None)
    able = abilities(source)
    if not able.arguments and any("tool_calls" in message for message in messages):
        raise TemplateError("this template says no calls")
    return ChatTemplate(source).render(adapt(messages, able), TOOLS, add_generation_prompt=len(messages) == 1)


def _difference(called: str, said: str) -> str:
    """``called`` less what both begin and end with; no tag is cut in two."""
    begin = common(called, said.partition(SAID)[0])
    end = len(called) - common(called[begin:][::-1], said.rpartition(SAID)[2][::-1])
    opened = called.rfind("<", 0, begin)
    begin = opened if opened > called.rfind(">", 0, begin) else begin
    closed = called.find(">", end)
    end = closed + 1 if 0 <= closed < (called.find("<", end) if "<" in called[end:] else len(called)) else end
    return called[begin:end]


def common(a: str, b: str) -> int:
    """How many characters two texts begin with alike."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
