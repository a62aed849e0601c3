"""A conversation through a chat template in Jinja: its messages, its thinking tags, answers already begun.

Runs the template, also to find out what it does; only a model's own process may call this.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from modelfiles.conversation import Message, tool_wire
from modelfiles.errors import TemplateError
from modelfiles.jinja import ChatTemplate
from modelfiles.jinja_probe import abilities, adapt

Think = bool | str | None
HARMONY = ("<|start|>", "<|channel|>")

THOUGHT, ANSWER = "TH0UGHT", "ANSW3R"
TAG = r"(?:<[^<>\s]{1,40}>(?:thought)?|\[/?[A-Z_]{2,30}\])"
BEFORE = re.compile(TAG + r"\Z")
AFTER = re.compile(TAG)


def render_chat(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    think: Think,
    *,
    variables: Mapping[str, Any] | None = None,
    now: datetime.datetime | None = None,
) -> str:
    begun: Message | None = None
    if messages and messages[-1]["role"] == "assistant" and not messages[-1]["tool_calls"]:
        begun, messages = messages[-1], messages[:-1]
    told = adapt([_message(m, template.source) for m in messages], abilities(template.source))
    wires = [tool_wire(tool) for tool in tools]
    text = template.render(told, wires, think=think, variables=variables, now=now)
    return text if begun is None else text + _begun(text, begun, thinking_tags(template.source))


def _message(message: Message, source: str) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if message["thinking"]:
        # Three names are about for one thing; a template reads one of them.
        out |= {"reasoning_content": message["thinking"], "thinking": message["thinking"]}
        out["reasoning"] = message["thinking"]
    if message["tool_calls"]:
        out["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {k: call["function"][k] for k in ("name", "arguments")}}
            for call in message["tool_calls"]
        ]
        if out.get("thinking") and out["content"] and all(mark in source for mark in HARMONY):
            # This family refuses a call with both; what was said before the call is part of its analysis.
            out["thinking"] = out["reasoning_content"] = f"{out['thinking']}\n\n{out['content']}"
            out["content"] = ""
    if message["role"] == "tool":
        out |= {"name": message["tool_name"], "tool_call_id": message["tool_call_id"]}
    return out


def _begun(text: str, message: Message, tags: tuple[str, str] | None) -> str:
    """The answer that the model is to go on with."""
    if tags is None:
        return str(message["content"])
    opening, closing = tags
    opened = text.rstrip().endswith(opening)
    thoughts = message["thinking"] if opened or not message["thinking"] else f"{opening}\n{message['thinking']}"
    if not message["content"]:
        return str(thoughts)
    return f"{thoughts}\n{closing}\n\n{message['content']}" if thoughts or opened else str(message["content"])


@lru_cache(maxsize=64)
def thinking_tags(source: str) -> tuple[str, str] | None:
    """What the template puts around a thought, seen by giving it one; else the tags that it looks for in an answer."""
    template = ChatTemplate(source)
    thoughts = {"reasoning_content": THOUGHT, "thinking": THOUGHT, "reasoning": THOUGHT}
    answer: Message = {"role": "assistant", "content": ANSWER}
    header = _around(_rendered(template, answer), ANSWER)[0]
    for content in (ANSWER, ""):
        text = _rendered(template, {**answer, "content": content, **thoughts})
        opening, closing = _around(text, THOUGHT)
        if opening and closing and opening != header:
            return opening, closing
    if "<think>" in source and "</think>" in source:
        return "<think>", "</think>"
    return None


def _rendered(template: ChatTemplate, answer: Message) -> str:
    """A question and this answer; where needed with parts for texts."""
    question: Message = {"role": "user", "content": "Q"}
    messages = [question, answer]
    if abilities(template.source).typed:
        messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    try:
        return template.render(messages, think=True, add_generation_prompt=False)
    except TemplateError:
        return ""


def _around(text: str, needle: str) -> tuple[str, str]:
    """The tags right before and behind ``needle``."""
    before, found, after = text.partition(needle)
    opening, closing = BEFORE.search(before.rstrip()), AFTER.match(after.lstrip())
    return (opening[0] if found and opening else "", closing[0] if found and closing else "")
