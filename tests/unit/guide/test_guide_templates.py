"""The two templates of the built-in model write exactly the text that it was trained on."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

from modelfiles import render

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from guide import corpus, corpus_tools, held  # noqa: E402
from guide.prompt import CHAT_TEMPLATE, Conversation, Message, prompt  # noqa: E402

GUIDE = ROOT / "modelfiles/guide"


def go_template() -> str:
    return (GUIDE / "think.Modelfile").read_text(encoding="utf-8").split('TEMPLATE """')[1].split('"""')[0]


def wire(talk: Conversation) -> list[dict[str, Any]]:
    return [
        {
            "role": message.role,
            "content": message.content,
            "thinking": message.thought,
            "tool_calls": [{"function": {"name": name, "arguments": given}} for name, given in message.calls],
        }
        for message in talk.messages
    ]


def begun(count: int) -> list[Conversation]:
    """Conversations that wait for an answer, with systems, tools, calls, results and several turns among them."""
    talks = [case.talk for case in held.rule_cases(count)]
    whole = corpus.training(7, 0.01)
    talks += [Conversation(t.kind, t.messages[:-1], t.tools) for t in whole if t.messages[-1].role == "assistant"]
    for talk in talks:
        for tool in talk.tools:
            tool["function"]["parameters"] = ordered(tool["function"]["parameters"])
    return talks


def ordered(parameters: dict[str, Any]) -> dict[str, Any]:
    """A schema as Ollama writes it again: in this order, nothing empty."""
    return {key: parameters[key] for key in ("type", "required", "properties") if parameters[key] or key != "required"}


def test_jinja_writes_the_training_text() -> None:
    for talk in begun(20):
        talk.compact = talk.think = False
        for message in talk.messages:
            message.thought = ""
        assert render.render_chat(CHAT_TEMPLATE, "jinja", wire(talk), talk.tools) == prompt(talk)


@pytest.mark.parametrize("think", [True, False])
def test_go_writes_the_training_text(think: bool) -> None:
    for talk in begun(20):
        talk.compact, talk.think = True, think
        for message in talk.messages:
            message.thought = ""
        if any(message.calls for message in talk.messages):
            continue  # arguments of earlier calls are written without blanks
        assert render.render_chat(go_template(), "go", wire(talk), talk.tools, think=think) == prompt(talk)


def test_go_keeps_earlier_thoughts_calls_and_results() -> None:
    messages = [
        Message("user", "a"),
        Message("assistant", calls=(("f", {"x": 1}),), thought="t"),
        Message("tool", "r1"),
        Message("tool", "r2"),
    ]
    text = render.render_chat(go_template(), "go", wire(Conversation("x", messages)), think=True)
    assert text == (
        "<|im_start|>user\na<|im_end|>\n"
        '<|im_start|>assistant\n<think>\nt\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"x":1}}\n</tool_call>'
        "<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nr1\n</tool_response><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nr2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    )


def test_an_answer_begun_is_gone_on_with() -> None:
    talk = wire(Conversation("x", [Message("user", "a"), Message("assistant", "b")]))
    for source, kind in ((CHAT_TEMPLATE, "jinja"), (go_template(), "go")):
        text = render.render_chat(source, kind, talk)  # type: ignore[arg-type]
        assert text == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb"


def test_capabilities() -> None:
    assert render.capabilities(None, CHAT_TEMPLATE) == {"tools"}
    assert render.capabilities(go_template(), CHAT_TEMPLATE) == {"tools", "thinking"}
    assert render.choose(go_template(), CHAT_TEMPLATE) == "go"
    assert render.thinking_tags(go_template(), "go") == ("<think>", "</think>")


def test_random_tools_survive_both_templates() -> None:
    talk = corpus_tools.conversation(random.Random(3), held=True)
    for source, kind in ((CHAT_TEMPLATE, "jinja"), (go_template(), "go")):
        text = render.render_chat(source, kind, wire(talk)[:1], talk.tools)  # type: ignore[arg-type]
        assert all(tool["function"]["name"] in text for tool in talk.tools)
