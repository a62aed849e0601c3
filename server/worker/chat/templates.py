"""The template that speaks for a model, whatever its language: how it renders and what its answers look like.

Go TEMPLATE layer, else the GGUF's Jinja, else ``{{ .Prompt }}``. Everything here runs template code: callers
keep it within a ``Budget``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from modelfiles import render
from modelfiles.errors import ModelfilesError
from modelfiles.gotemplate import Template
from server.errors import InvalidRequest, RunnerError, Unsupported
from server.types import Message, Think
from server.worker.chat.fit import CannotRender
from server.worker.chat.formats import HERMES
from server.worker.chat.history import as_json

MAX_SOURCE = 1 << 20
MAX_OUTPUT = 16 << 20
NO_TEMPLATE = "{{ .Prompt }}"
THINK_TAGS = ("<think>", "</think>")


class ChatTemplate:
    """``tags`` around thinking (None = it cannot think), ``marker`` before a tool call ("" = none known)."""

    def __init__(self, kind: Literal["go", "jinja"], source: str, *, bos: str = "", eos: str = "") -> None:
        if len(source) > MAX_SOURCE:
            raise InvalidRequest("chat template failed: the template is longer than 1 MiB")
        self._kind = kind
        self._source = source
        self._bos, self._eos = bos, eos
        self._go = _parse(source) if kind == "go" else None
        self.tags: tuple[str, str] | None
        if self._go is not None:
            self.tags, self.marker = self._go.thinking_tags(), self._go.tool_marker() or ""
        else:
            self.tags = THINK_TAGS if THINK_TAGS[1] in source else None
            self.marker = HERMES if HERMES in source else ""

    def chat(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], think: Think) -> str:
        spelt = [as_json(message) for message in messages]
        try:
            text = render.render_chat(self._source, self._kind, spelt, list(tools), think, bos=self._bos, eos=self._eos)
        except ModelfilesError as error:
            raise CannotRender(f"chat template failed: {error}") from None
        except RecursionError:
            raise CannotRender("chat template failed: nested too deeply") from None
        return _bounded(text)

    def insert(self, prompt: str, suffix: str) -> str:
        """Fill-in-the-middle: the template sees the two texts and nothing else."""
        if self._go is None or "suffix" not in self._go.variables():
            raise Unsupported("the model's template does not support insert")
        try:
            return _bounded(self._go.render({"Prompt": prompt, "Suffix": suffix}))
        except ModelfilesError as error:
            raise CannotRender(f"chat template failed: {error}") from None


def _parse(source: str) -> Template:
    try:
        return Template.parse(source)
    except ModelfilesError as error:
        raise RunnerError(str(error)) from None


def _bounded(text: str) -> str:
    if len(text) > MAX_OUTPUT:
        raise InvalidRequest("chat template failed: output limit")
    return text


def choose(go: str | None, jinja: str, prefer_go: bool | None, *, bos: str, eos: str) -> ChatTemplate:
    """The model's own template."""
    kind = render.choose(go, jinja or None, prefer_go)
    if kind == "jinja":
        return ChatTemplate("jinja", jinja, bos=bos, eos=eos)
    return ChatTemplate("go", go if kind == "go" and go is not None else NO_TEMPLATE)
