"""OpenAI's chat messages → ours. Each part of a content list becomes a message; templates join them again."""

from __future__ import annotations

import re
from typing import Any

import orjson

from server.api.decode import unbase64
from server.errors import InvalidRequest
from server.types import Message, ToolCall

DATA_URL = re.compile(r"data:image/(?:jpeg|jpg|png|webp);base64,")
GO_TYPES = {bool: "bool", int: "float64", float: "float64", dict: "map[string]interface {}", type(None): "<nil>"}


def messages(given: list[dict[str, Any]]) -> list[Message]:
    made: list[Message] = []
    names: dict[str, str] = {}
    for fields in given:
        calls = tuple(_call(call or {}, index) for index, call in enumerate(fields.get("tool_calls", ())))
        names |= {call.id: call.name for call in calls if call.id}
        contents = _contents(fields)
        for place, (text, images) in enumerate(contents):
            last = place == len(contents) - 1
            made.append(
                Message(
                    fields.get("role", "").lower(),
                    text,
                    thinking=fields.get("reasoning", "") if last else "",
                    images=images,
                    tool_calls=calls if last else (),
                    tool_name=fields.get("name") or names.get(fields.get("tool_call_id", ""), ""),
                    tool_call_id=fields.get("tool_call_id", ""),
                )
            )
    return made


def _contents(fields: dict[str, Any]) -> list[tuple[str, tuple[bytes, ...]]]:
    content = fields.get("content")
    if isinstance(content, str):
        return [(content, ())]
    if isinstance(content, list):
        parts = [_part(part) for part in content]
        return parts or ([("", ())] if fields.get("tool_calls") else [])
    if not fields.get("tool_calls"):
        raise InvalidRequest(f"invalid message content type: {GO_TYPES[type(content)]}")
    return [("", ())]


def _part(part: Any) -> tuple[str, tuple[bytes, ...]]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"], ()
    if kind == "image_url":
        given = part.get("image_url")
        url = given.get("url") if isinstance(given, dict) else given
        if not isinstance(url, str):
            raise InvalidRequest("invalid message format")
        return "", (image(url),)
    if kind == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, dict) else None
        if not isinstance(data, str):
            raise InvalidRequest("invalid message format")
        return "", (unbase64(data),)
    raise InvalidRequest("invalid message format")


def image(url: str) -> bytes:
    if url.startswith(("http://", "https://")):
        raise InvalidRequest("image URLs are not currently supported, please use base64 encoded data instead")
    match = DATA_URL.match(url)
    if match is None:
        raise InvalidRequest("invalid image input")
    try:
        return unbase64(url[match.end() :])
    except InvalidRequest:
        raise InvalidRequest("invalid image input") from None


def _call(fields: dict[str, Any], index: int) -> ToolCall:
    function = fields.get("function", {})
    arguments = call_arguments(function.get("arguments", ""))
    return ToolCall(function.get("name", ""), arguments, fields.get("id", ""), fields.get("index", index))


def call_arguments(text: str) -> dict[str, Any]:
    """The object that a call's arguments spell; nothing at all means none."""
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest("invalid tool call arguments")
    return arguments
