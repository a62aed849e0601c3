"""A conversation as `llamada run` holds it: the messages and what is sent with them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from server.cli.answer import Answer

Object = dict[str, Any]


@dataclass(slots=True)
class Session:
    """``format`` is "json", a schema or "" = free. ``think`` None = not asked. ``loaded``: the model's own MESSAGEs,
    which the server puts before ours."""

    model: str
    capabilities: frozenset[str] = frozenset()
    system: str = ""
    messages: list[Object] = field(default_factory=list)
    loaded: list[Object] = field(default_factory=list)
    options: Object = field(default_factory=dict)
    format: str | Object = ""
    think: bool | str | None = None
    keep_alive: str | None = None
    wordwrap: bool = True
    verbose: bool = False
    hide_thinking: bool = False

    @property
    def multimodal(self) -> bool:
        return bool(self.capabilities & {"vision", "audio"})

    def common(self) -> Object:
        """Fields that every request of this session carries."""
        body: Object = {"model": self.model, "options": self.options}
        if self.format:
            body["format"] = self.format
        if self.think is not None:
            body["think"] = self.think
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        return body

    def chat_body(self) -> Object:
        return self.common() | {"messages": self.messages}

    def generate_body(self, prompt: str, images: list[str]) -> Object:
        body = self.common() | {"prompt": prompt}
        if self.system:
            body["system"] = self.system
        return body | ({"images": images} if images else {})

    def save_body(self, name: str) -> Object:
        """A model that begins where this conversation stands."""
        body: Object = {"model": name, "from": self.model}
        if self.system:
            body["system"] = self.system
        if self.options:
            body["parameters"] = self.options
        spoken = (m for m in (*self.loaded, *self.messages) if m["role"] != "system")
        said = [{"role": m["role"], "content": m["content"]} for m in spoken]
        return body | ({"messages": said} if said else {})

    def say(self, content: str, images: list[str]) -> None:
        message: Object = {"role": "user", "content": content}
        self.messages.append(message | ({"images": images} if images else {}))

    def heard(self, answer: Answer) -> None:
        """Take up an answer. A turn that was stopped before its first word never was."""
        if answer.interrupted and not (answer.content or answer.thinking):
            self.messages.pop()
            return
        message: Object = {"role": "assistant", "content": answer.content}
        if answer.thinking:
            message["thinking"] = answer.thinking
        if answer.tool_calls:
            message["tool_calls"] = answer.tool_calls
        self.messages.append(message)

    def set_system(self, text: str) -> None:
        """From here on; the last word counts when it is set twice in a row."""
        self.system = text
        message: Object = {"role": "system", "content": text}
        if self.messages and self.messages[-1]["role"] == "system":
            self.messages[-1] = message
        else:
            self.messages.append(message)

    def clear(self) -> None:
        self.messages = [{"role": "system", "content": self.system}] if self.system else []
