"""The template that speaks for a model, whatever its language: how it renders and what its answers look like.

Go TEMPLATE layer, else the GGUF's Jinja, else ``{{ .Prompt }}``. Everything here runs template code: callers
keep it within a ``Budget``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from modelfiles import render
from modelfiles.conversation import complete
from modelfiles.errors import ModelfilesError
from modelfiles.jinja import PREFIX
from modelfiles.render_go import parsed
from modelfiles.tool_probe import shows_tools
from server.errors import RunnerError, Unsupported
from server.types import Message, Think, ToolCall
from server.worker.chat.fit import CannotRender, Spelt
from server.worker.chat.formats.choose import HARMONY, row_of
from server.worker.chat.formats.row import ToolFormat


class ChatTemplate:
    """``tags`` around thinking (None = it cannot think)."""

    def __init__(self, kind: render.Kind, source: str, *, bos: str = "", eos: str = "") -> None:
        self._kind = kind
        self._source = source
        self._bos, self._eos = bos, eos
        try:
            self._variables = parsed(source).variables() if kind == "go" else frozenset[str]()
            self._marker = (parsed(source).tool_marker() or "") if kind == "go" else ""
        except ModelfilesError as error:
            raise RunnerError(str(error)) from None
        try:
            self.tags = render.thinking_tags(source, kind)
        except ModelfilesError as error:
            raise _failed(error) from None

    @cached_property
    def row(self) -> ToolFormat:
        """How its model writes tool calls."""
        try:
            return row_of(self._source, self._kind, self._marker)
        except ModelfilesError as error:
            raise _failed(error) from None

    @property
    def harmony(self) -> bool:
        """Its answers are messages with headers, tools or not."""
        return all(mark in self._source for mark in HARMONY.marks)

    @cached_property
    def shows_tools(self) -> bool:
        return shows_tools(self._source, self._kind)

    def chat(self, messages: Sequence[Spelt], tools: Sequence[Mapping[str, Any]], think: Think) -> str:
        try:
            return render.render_chat(
                self._source, self._kind, messages, tools, think=think, bos=self._bos, eos=self._eos
            )
        except ModelfilesError as error:
            raise _failed(error) from None
        except RecursionError:
            raise CannotRender("chat template failed: nested too deeply") from None

    def insert(self, prompt: str, suffix: str) -> str:
        """Fill-in-the-middle: the template sees the two texts and nothing else."""
        if "suffix" not in self._variables:
            raise Unsupported("the model's template does not support insert")
        try:
            return render.render_completion(self._source, self._kind, prompt, suffix=suffix)
        except ModelfilesError as error:
            raise _failed(error) from None


def _failed(error: ModelfilesError) -> CannotRender:
    return CannotRender(f"chat template failed: {str(error).removeprefix(PREFIX)}")


NO_TEMPLATE = ChatTemplate("go", render.BARE)


def choose(go: str | None, jinja: str, prefer_go: bool | None, *, bos: str, eos: str) -> ChatTemplate:
    """The model's own template."""
    try:
        kind = render.choose(go, jinja or None, prefer_go)
    except ModelfilesError as error:
        raise RunnerError(str(error)) from None
    if kind == "jinja":
        return ChatTemplate("jinja", jinja, bos=bos, eos=eos)
    return NO_TEMPLATE if go is None else ChatTemplate("go", go)


def spell(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Plain messages, results of tools tied to their calls (while all of the conversation is there)."""
    spelt = [_spell(message) for message in messages]
    for message, whole in zip(spelt, complete(spelt), strict=True):
        message.update((key, whole[key]) for key in ("tool_calls", "tool_name", "tool_call_id"))
    return spelt


def _spell(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.content,
        "thinking": message.thinking,
        "images": len(message.images),
        "tool_calls": [_call(call) for call in message.tool_calls],
        "tool_name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "function": {"index": call.index, "name": call.name, "arguments": call.arguments}}
