"""The items of a Responses request → our messages. What is wrong is named by its place, as ``input[2]``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from server.api.openai_messages import call_arguments, image
from server.errors import InvalidRequest
from server.types import Message, ToolCall

ROLES = ("user", "assistant", "system", "developer")
TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def messages_of(given: Any, earlier: Iterable[Message]) -> tuple[Message, ...]:
    """``earlier``: the messages before, whose calls the results may answer."""
    if isinstance(given, str) and given:
        return (Message("user", given),)
    if not isinstance(given, list) or not given:
        raise InvalidRequest("input must be a string or a list of items")
    items = _Items({call.id: call.name for message in earlier for call in message.tool_calls})
    for index, item in enumerate(given):
        where = f"input[{index}]"
        if not isinstance(item, dict):
            raise InvalidRequest(f"{where} must be an object")
        items.add(item, where)
    return items.finish()


class _Items:
    """``names``: call id → tool. A thought waits for the message or call that it led to."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._made: list[Message] = []
        self._thought = ""

    def add(self, item: dict[str, Any], where: str) -> None:
        match item.get("type") or ("message" if "role" in item else None):
            case "message":
                self._message(item, where)
            case "function_call":
                self._call(item, where)
            case "function_call_output":
                self._output(item, where)
            case "reasoning":
                self._thought += _thought(item)
            case kind:
                raise InvalidRequest(f'{where}: unknown input item type: "{kind}"')

    def finish(self) -> tuple[Message, ...]:
        if self._thought:
            self._made.append(Message("assistant", thinking=self._take_thought()))
        return tuple(self._made)

    def _message(self, item: dict[str, Any], where: str) -> None:
        role = item.get("role")
        if role not in ROLES:
            raise InvalidRequest(f"{where}.role must be one of {', '.join(ROLES)}")
        parts = _parts(item.get("content"), f"{where}.content")
        made = [Message(role, text, images=images) for text, images in parts] or [Message(role)]
        if role == "assistant":
            made[-1] = replace(made[-1], thinking=self._take_thought())
        self._made += made

    def _call(self, item: dict[str, Any], where: str) -> None:
        identity, name = _string(item, "call_id", where), _string(item, "name", where)
        arguments = call_arguments(_string(item, "arguments", where))
        self._names[identity] = name
        if not self._made or self._made[-1].role != "assistant" or self._thought:
            self._made.append(Message("assistant", thinking=self._take_thought()))
        last = self._made[-1]
        call = ToolCall(name, arguments, identity, len(last.tool_calls))
        self._made[-1] = replace(last, tool_calls=(*last.tool_calls, call))

    def _output(self, item: dict[str, Any], where: str) -> None:
        identity = _string(item, "call_id", where)
        parts = _parts(item.get("output"), f"{where}.output")
        text, images = "\n\n".join(text for text, _ in parts if text), [one for _, some in parts for one in some]
        name = self._names.get(identity, "")
        self._made.append(Message("tool", text, images=tuple(images), tool_name=name, tool_call_id=identity))

    def _take_thought(self) -> str:
        thought, self._thought = self._thought, ""
        return thought


def _parts(given: Any, where: str) -> list[tuple[str, tuple[bytes, ...]]]:
    if isinstance(given, str):
        return [(given, ())]
    if not isinstance(given, list):
        raise InvalidRequest(f"{where} must be a string or a list of parts")
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(given)]


def _part(part: Any, where: str) -> tuple[str, tuple[bytes, ...]]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in TEXTS:
        return _string(part, TEXTS[kind], where), ()
    if kind == "input_image":
        return "", (image(_string(part, "image_url", where)),)
    raise InvalidRequest(f'{where}: a part of type "{kind}" is not supported')


def _thought(item: dict[str, Any]) -> str:
    """The thought's text; our own ``encrypted_content`` is that text, too."""
    for key in ("content", "summary"):
        parts = item.get(key)
        texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        if found := "\n\n".join(text for text in texts if isinstance(text, str)):
            return found
    sealed = item.get("encrypted_content")
    return sealed if isinstance(sealed, str) else ""


def _string(fields: dict[str, Any], key: str, where: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{key} must be a string")
    return value
