"""Anthropic's content blocks → our messages. What is wrong is named by its place, as ``messages.0.content.1``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from server.api.decode import unbase64
from server.errors import InvalidRequest
from server.types import Message, ToolCall

ROLES = ("user", "assistant", "system")


def system(given: Any) -> str:
    """The text of ``system``, a string or text blocks (joined with nothing between them, as in Ollama)."""
    if given is None or isinstance(given, str):
        return given or ""
    return "".join(_text(block, f"system.{index}") for index, block in enumerate(_blocks(given, "system")))


def messages(given: list[dict[str, Any] | None]) -> tuple[Message, ...]:
    made: list[Message] = []
    names: dict[str, str] = {}
    for index, item in enumerate(given):
        fields, where = item or {}, f"messages.{index}"
        role, content = fields.get("role", ""), fields.get("content")
        if role not in ROLES:
            raise InvalidRequest(f'{where}.role must be "user", "assistant" or "system"')
        if isinstance(content, str):
            made.append(Message(role, content))
            continue
        turn = _Turn(role, names)
        for place, block in enumerate(_blocks(content, f"{where}.content")):
            turn.add(block, f"{where}.content.{place}")
        made += turn.finish()
    return tuple(made)


@dataclass
class _Turn:
    """One message of theirs, which is several of ours where it brings results of tools. ``names``: call id → tool."""

    role: str
    names: dict[str, str]
    done: list[Message] = field(default_factory=list)
    text: str = ""
    thinking: str = ""
    images: list[bytes] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def add(self, block: dict[str, Any], where: str) -> None:
        match block.get("type"):
            case "text":
                self.text += _text(block, where)
            case "image":
                self.images.append(_image(block, where))
            case "document":
                self._merge(_document(block, where))
            case "thinking":
                self.thinking += _string(block, "thinking", where)
            case "redacted_thinking":
                pass  # sealed by another server: nobody here can read it
            case "tool_use":
                self._call(block, where)
            case "tool_result":
                self._result(block, where)
            case kind:
                raise InvalidRequest(f"{where}: a block of type {_quoted(kind)} is not supported")

    def _merge(self, found: tuple[str, list[bytes]]) -> None:
        self.text += found[0]
        self.images += found[1]

    def _call(self, block: dict[str, Any], where: str) -> None:
        identity, name = _string(block, "id", where), _string(block, "name", where)
        arguments = block.get("input", {})
        if not isinstance(arguments, dict):
            raise InvalidRequest(f"{where}.input must be an object")
        self.names[identity] = name
        self.calls.append(ToolCall(name, arguments, identity, len(self.calls)))

    def _result(self, block: dict[str, Any], where: str) -> None:
        identity = _string(block, "tool_use_id", where)
        text, images = _content(block.get("content") or "", f"{where}.content")
        if block.get("is_error"):
            text = f"Error: {text}"  # no template has another place for it
        self._flush()
        self.done.append(
            Message("tool", text, images=tuple(images), tool_name=self.names.get(identity, ""), tool_call_id=identity)
        )

    def _flush(self) -> None:
        if self.text or self.images or self.calls or self.thinking:
            made = Message(self.role, self.text, self.thinking, tuple(self.images), tuple(self.calls))
            self.done.append(made)
            self.text, self.thinking, self.images, self.calls = "", "", [], []

    def finish(self) -> list[Message]:
        self._flush()
        return self.done or [Message(self.role)]


# -- blocks ---------------------------------------------------------------------------------------------


def _content(given: Any, where: str) -> tuple[str, list[bytes]]:
    """A string, or blocks of text, images and documents."""
    if isinstance(given, str):
        return given, []
    text, images = "", []
    for index, block in enumerate(_blocks(given, where)):
        place = f"{where}.{index}"
        match block.get("type"):
            case "text":
                text += _text(block, place)
            case "image":
                images.append(_image(block, place))
            case "document":
                more, pictures = _document(block, place)
                text, images = text + more, images + pictures
            case kind:
                raise InvalidRequest(f"{place}: a block of type {_quoted(kind)} is not supported")
    return text, images


def _document(block: dict[str, Any], where: str) -> tuple[str, list[bytes]]:
    """A document that is text or blocks; its title and context stand before it."""
    source = block.get("source")
    if not isinstance(source, dict):
        raise InvalidRequest(f"{where}.source must be an object")
    head = "".join(f"{block[key]}\n" for key in ("title", "context") if isinstance(block.get(key), str))
    match source.get("type"):
        case "text":
            return head + _string(source, "data", f"{where}.source"), []
        case "content":
            text, images = _content(source.get("content") or "", f"{where}.source.content")
            return head + text, images
        case kind:
            raise InvalidRequest(f"{where}.source: type {_quoted(kind)} is not supported: give the document's text")


def _image(block: dict[str, Any], where: str) -> bytes:
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if not isinstance(source, dict) or kind != "base64":
        raise InvalidRequest(f"invalid image source type: {kind or ''}. Only base64 images are supported.")
    try:
        return unbase64(_string(source, "data", f"{where}.source"))
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}.source.data: {error.message}") from None


def _blocks(given: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(given, list) and all(isinstance(block, dict) for block in given):
        return given
    raise InvalidRequest(f"{where} must be a string or a list of content blocks")


def _text(block: dict[str, Any], where: str) -> str:
    if block.get("type") != "text":
        raise InvalidRequest(f"{where}: a block of type {_quoted(block.get('type'))} is not supported here")
    return _string(block, "text", where)


def _string(block: dict[str, Any], key: str, where: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{key} must be a string")
    return value


def _quoted(kind: Any) -> str:
    return f'"{kind}"' if isinstance(kind, str) else "none"
