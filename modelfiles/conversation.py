"""Messages and tools as clients send them, made whole for templates of either kind. Plain data in, plain data out.

A message is a mapping with ``role``, ``content``, ``thinking``, ``images`` (how many, or a sequence), ``tool_calls``
(``[{id, function: {index, name, arguments}}]``), ``tool_name`` and ``tool_call_id``; only ``role`` must be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]
IMAGE_TAG = "[img-{}]"


def complete(messages: Sequence[Mapping[str, Any]], image_tag: str = IMAGE_TAG) -> list[Message]:
    """Every key present, images as placeholders in the text, results of tools tied to their calls."""
    out: list[Message] = []
    images = 0
    for given in messages:
        message = _filled(given)
        tags = [image_tag.format(images + n) for n in range(message["images"])]
        images += len(tags)
        message["content"] = place_images(message["content"], tags)
        out.append(message)
    _tie_results(out)
    return out


def _filled(given: Mapping[str, Any]) -> Message:
    images = given.get("images") or 0
    calls = [_call(call, n) for n, call in enumerate(given.get("tool_calls") or ())]
    return {
        "role": str(given["role"]).lower(),
        "content": given.get("content") or "",
        "thinking": given.get("thinking") or "",
        "images": images if isinstance(images, int) else len(images),
        "tool_calls": calls,
        "tool_name": given.get("tool_name") or given.get("name") or "",
        "tool_call_id": given.get("tool_call_id") or "",
    }


def _call(given: Mapping[str, Any], number: int) -> Message:
    function = given["function"]
    index = function.get("index")
    return {
        "id": given.get("id") or "",
        "function": {
            "index": number if index is None else index,
            "name": function["name"],
            "arguments": dict(function.get("arguments") or {}),
        },
    }


def place_images(text: str, tags: Sequence[str]) -> str:
    """Each in place of the next ``[img]``; the others go before the text."""
    front = ""
    for tag in tags:
        if "[img]" in text:
            text = text.replace("[img]", tag, 1)
        else:
            front += tag
    return front + text


def _tie_results(messages: Sequence[Message]) -> None:
    """A result names its call by id, by the tool's name, or (some clients) not at all: then it is the next open one."""
    opened: list[Message] = []
    made = 0
    for message in messages:
        for call in message["tool_calls"]:
            call["id"] = call["id"] or f"call_{made}"
            made += 1
            opened.append(call)
        if message["role"] == "tool":
            call = _answered(message, opened)
            if call is not None:
                opened.remove(call)
                message["tool_name"] = message["tool_name"] or call["function"]["name"]
                message["tool_call_id"] = message["tool_call_id"] or call["id"]


def _answered(result: Message, opened: Sequence[Message]) -> Message | None:
    if result["tool_call_id"]:
        return next((call for call in opened if call["id"] == result["tool_call_id"]), None)
    if result["tool_name"]:
        return next((call for call in opened if call["function"]["name"] == result["tool_name"]), None)
    return opened[0] if opened else None


def strip_thinking(content: str, tags: tuple[str, str]) -> str:
    """What an earlier answer said once it had thought: models that learned so do not see their old thoughts."""
    opening, closing = tags
    before, found, after = content.partition(closing)
    return after.lstrip("\n") if found and before.lstrip().startswith(opening) else content


# -- tools ------------------------------------------------------------------------------------------------

PROPERTY_KEYS = ("anyOf", "type", "items", "description", "enum", "properties", "required")


def tool_wire(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool with the keys that Ollama passes on, in its order: models were shown no others."""
    function = tool.get("function") or {}
    wire: dict[str, Any] = {"type": tool.get("type") or ""}
    if tool.get("items"):
        wire["items"] = _sorted(tool["items"])
    described = {"name": function.get("name") or ""}
    if function.get("description"):
        described["description"] = function["description"]
    wire["function"] = {**described, "parameters": _parameters(function.get("parameters") or {})}
    return wire


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    wire: dict[str, Any] = {"type": given.get("type") or ""}
    for key in ("$defs", "items"):
        if given.get(key):
            wire[key] = _sorted(given[key])
    if given.get("required"):
        wire["required"] = list(given["required"])
    properties = given.get("properties") or {}
    wire["properties"] = {name: _property(schema) for name, schema in properties.items()}
    return wire


def _property(given: Any) -> dict[str, Any]:
    wire: dict[str, Any] = {}
    if not isinstance(given, Mapping):
        return wire
    for key in PROPERTY_KEYS:
        value = given.get(key)
        if not value:
            continue
        if key == "anyOf":
            wire[key] = [_property(option) for option in value]
        elif key == "properties":
            wire[key] = {name: _property(schema) for name, schema in value.items()}
        elif key == "type":
            wire[key] = value[0] if isinstance(value, list) and len(value) == 1 else value
        else:
            wire[key] = _sorted(value)
    return wire


def _sorted(value: Any) -> Any:
    """Free JSON passes through Go's maps, which come out sorted."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value
