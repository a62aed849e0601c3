"""What is put right in a conversation before a template sees it.

Results of tools get the name and id of their call, whichever of the two (or neither) the client sent. Images
of a model that cannot see become their tags, ``[img-0]`` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from server.types import Message, ToolCall

IMAGE = "[img]"


def name_tool_results(messages: Iterable[Message]) -> list[Message]:
    """Each ``tool`` message with ``tool_name`` and, where the call has one, ``tool_call_id``.

    A result that names neither belongs to the oldest call that has no result yet.
    """
    done: list[Message] = []
    calls: dict[str, ToolCall] = {}
    waiting: list[ToolCall] = []
    for message in messages:
        if message.tool_calls:
            calls.update((call.id, call) for call in message.tool_calls if call.id)
            waiting = list(message.tool_calls)
        elif message.role == "tool":
            call = calls.get(message.tool_call_id) or _oldest(waiting, message.tool_name)
            if call is not None:
                message = _answering(message, call)
                waiting = [other for other in waiting if other is not call]
        done.append(message)
    return done


def _oldest(waiting: Sequence[ToolCall], name: str) -> ToolCall | None:
    return next((call for call in waiting if not name or call.name == name), None)


def _answering(message: Message, call: ToolCall) -> Message:
    return replace(message, tool_name=message.tool_name or call.name, tool_call_id=message.tool_call_id or call.id)


def place_images(messages: Iterable[Message]) -> list[Message]:
    """Images as numbered tags: in place of each ``[img]`` that the user wrote, the others before the text."""
    placed: list[Message] = []
    count = 0
    for message in messages:
        before, content = "", message.content
        for number in range(count, count + len(message.images)):
            tag = f"[img-{number}]"
            if IMAGE in content:
                content = content.replace(IMAGE, tag, 1)
            else:
                before += tag
        count += len(message.images)
        placed.append(replace(message, content=before + content, images=()) if message.images else message)
    return placed


def as_json(message: Message) -> dict[str, Any]:
    """The message as Ollama's API spells it, empty fields left out."""
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    optional = {
        "thinking": message.thinking,
        "tool_calls": [_call_as_json(call) for call in message.tool_calls],
        "tool_name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    value.update((name, given) for name, given in optional.items() if given)
    return value


def _call_as_json(call: ToolCall) -> dict[str, Any]:
    function: dict[str, Any] = {"name": call.name, "arguments": call.arguments}
    if call.index is not None:
        function["index"] = call.index
    return {"id": call.id, "function": function} if call.id else {"function": function}
