"""How a conversation becomes text: the ChatML prompt of `guide`, exactly as its two templates write it.

`segments` returns (text, learn) pairs; the pairs marked `learn` are what the model must write. The Jinja template in
the GGUF and the Go TEMPLATE of `guide:think` must render the same text, which a test compares.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

START, END = "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = ("<|endoftext|>", START, END)
TAG_TOKENS = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>",
)  # fmt: skip

CHAT_TEMPLATE = r"""{%- set first = messages[0] if messages else none %}
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if first and first.role == 'system' and first.content %}
        {{- first.content + '\n\n' }}
    {%- endif %}
    {{- '# Tools\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\n</tools><|im_end|>\n' }}
{%- elif first and first.role == 'system' and first.content %}
    {{- '<|im_start|>system\n' + first.content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'system' and loop.first %}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' + content }}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- set call = tool_call.function if tool_call.function else tool_call %}
                {%- if content or not loop.first %}{{- '\n' }}{%- endif %}
                {{- '<tool_call>\n{"name": "' + call.name + '", "arguments": ' }}
                {{- call.arguments if call.arguments is string else call.arguments | tojson }}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"""


@dataclass(slots=True)
class Message:
    """One turn; `calls` are (name, arguments) pairs, `thought` is written before the content when thinking is on.

    `cut`: only the beginning of an answer, with no end of the turn; for the last turn of a training example.
    """

    role: str
    content: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    thought: str = ""
    learn: bool = True
    cut: bool = False


@dataclass(slots=True)
class Conversation:
    """A training or test example; `compact` writes tools as the Go template does, JSON without blanks."""

    kind: str
    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    think: bool = False
    compact: bool = False


def segments(talk: Conversation) -> list[tuple[str, bool]]:
    """The text of the whole conversation in pieces, each with whether the model learns to write it."""
    messages = talk.messages
    pieces = [(_head(talk), False)]
    for index, message in enumerate(messages):
        if message.role == "system" and index == 0:
            continue
        if message.role == "assistant":
            opening = "<think>\n" if talk.think and message.thought else ""
            pieces.append((f"{START}assistant\n{opening}", False))
            thought = f"{message.thought}\n</think>\n\n" if opening else ""
            pieces.append((thought + answer_text(message) + ("" if message.cut else END), message.learn))
            pieces.append(("\n", False))
        elif message.role == "tool":
            before = not talk.compact and index and messages[index - 1].role == "tool"
            after = not talk.compact and index + 1 < len(messages) and messages[index + 1].role == "tool"
            text = f"\n<tool_response>\n{message.content}\n</tool_response>"
            pieces.append(("" if before else f"{START}user", False))
            pieces.append((text + ("" if after else f"{END}\n"), False))
        else:
            pieces.append((f"{START}{message.role}\n{message.content}{END}\n", False))
    return [piece for piece in pieces if piece[0]]


def prompt(talk: Conversation) -> str:
    """The text the model continues: the conversation up to the opening of the next assistant turn."""
    return "".join(text for text, _ in segments(talk)) + f"{START}assistant\n" + ("<think>\n" if talk.think else "")


def dumps(value: Any, compact: bool) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":") if compact else (", ", ": "))


def _head(talk: Conversation) -> str:
    first = talk.messages[0]
    system = first.content if first.role == "system" else ""
    if not talk.tools:
        return f"{START}system\n{system}{END}\n" if system else ""
    listed = "".join("\n" + _tool(tool, talk.compact) for tool in talk.tools)
    return f"{START}system\n" + (system + "\n\n" if system else "") + f"# Tools\n<tools>{listed}\n</tools>{END}\n"


def _tool(tool: dict[str, Any], compact: bool) -> str:
    if not compact:
        return dumps(tool, compact=False)
    return f'{{"type": "function", "function": {dumps(tool["function"], compact=True)}}}'


def answer_text(message: Message) -> str:
    """What the assistant writes after its thought: content, then calls."""
    calls = "\n".join(
        f'<tool_call>\n{{"name": "{name}", "arguments": {dumps(arguments, compact=False)}}}\n</tool_call>'
        for name, arguments in message.calls
    )
    return message.content + ("\n" if message.content and calls else "") + calls
