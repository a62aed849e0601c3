"""What a Jinja template is able to, found by rendering tiny conversations and looking for a needle in the text.

Each answer is found once per template. ``adapt`` changes a conversation so that the template can say it: what llama.cpp
does for the same templates. Input and output are the plain messages that templates take.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from modelfiles.errors import TemplateError
from modelfiles.jinja import ChatTemplate

Message = dict[str, Any]
NEEDLE = "n33dle"
USER: Message = {"role": "user", "content": "U"}
TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "tool_x",
        "description": "D",
        "parameters": {
            "type": "object",
            "properties": {"k33y": {"type": "string", "description": "P"}},
            "required": [],
        },
    },
}
SHORT_ID = "abcdef123"


@dataclass(frozen=True, slots=True)
class Abilities:
    """``arguments``: how the template wants those of a call (``object`` or ``string``), "" if it cannot say calls.
    ``typed``: content must be a list of parts. ``neighbours``: two messages of one role may follow each other.
    ``short_ids``: ids of calls must be nine letters and digits. ``no_content``: a call's message must have None."""

    system: bool
    developer: bool
    typed: bool
    neighbours: bool
    arguments: str
    short_ids: bool
    no_content: bool
    tool_results: bool


@lru_cache(maxsize=64)
def abilities(source: str) -> Abilities:
    return _Probe(source).abilities()


class _Probe:
    def __init__(self, source: str) -> None:
        self._source = source
        self._template = ChatTemplate(source)
        self._typed = False

    def abilities(self) -> Abilities:
        self._typed = not self._says([_user(NEEDLE)]) and NEEDLE in self._render([_user(_parts(NEEDLE))])
        arguments, short_ids, no_content = self._calls()
        return Abilities(
            system=self._says([{"role": "system", "content": NEEDLE}, USER]),
            developer="developer" in self._source,
            typed=self._typed,
            neighbours=self._says([USER, _user(NEEDLE)]),
            arguments=arguments,
            short_ids=short_ids,
            no_content=no_content,
            tool_results=self._results(arguments, short_ids, None if no_content else ""),
        )

    def _render(self, messages: Sequence[Message]) -> str:
        """The text, without tools or with one; empty where the template refuses both."""
        if self._typed:
            messages = [{**m, "content": _parts(m["content"])} for m in messages]
        with_calls = any(m["role"] == "tool" or "tool_calls" in m for m in messages)
        for tools in ([TOOL],) if with_calls else ((), [TOOL]):
            with contextlib.suppress(TemplateError):
                return self._template.render(messages, tools)
        return ""

    def _says(self, messages: Sequence[Message]) -> bool:
        return NEEDLE in self._render(messages)

    def _calls(self) -> tuple[str, bool, bool]:
        for call_id, content in (("call_0", ""), ("call_0", None), (SHORT_ID, ""), (SHORT_ID, None)):
            form = self._arguments(call_id, content)
            if form:
                return form, call_id == SHORT_ID, content is None
        return "", False, False

    def _arguments(self, call_id: str, content: str | None) -> str:
        given: dict[str, Any] = {"k33y": NEEDLE}
        result = {"role": "tool", "content": "R", "name": "tool_x", "tool_name": "tool_x", "tool_call_id": call_id}
        for following in ([], [result]):
            text = self._render([USER, _call(given, call_id, content), *following])
            # Python's own spelling of a dict is no JSON: such a template prints what it is given.
            if NEEDLE in text and "k33y" in text.partition("U")[2] and "'k33y':" not in text:
                return "object"
            if self._says([USER, _call(json.dumps(given), call_id, content), *following]):
                return "string"
        return ""

    def _results(self, arguments: str, short_ids: bool, content: str | None) -> bool:
        given: Any = {"k33y": "v"} if arguments != "string" else '{"k33y": "v"}'
        call_id = SHORT_ID if short_ids else "call_0"
        result = {"role": "tool", "content": NEEDLE, "name": "tool_x", "tool_name": "tool_x", "tool_call_id": call_id}
        return self._says([USER, _call(given, call_id, content), result])


def _user(content: Any) -> Message:
    return {"role": "user", "content": content}


def _parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _call(arguments: Any, call_id: str, content: str | None = "") -> Message:
    call = {"id": call_id, "type": "function", "function": {"name": "tool_x", "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


# -- adapting a conversation ------------------------------------------------------------------------------


def adapt(messages: Sequence[Mapping[str, Any]], able: Abilities) -> list[Message]:
    """``messages`` in the words that a template with these abilities understands."""
    adapted = [dict(message) for message in messages]
    for message in adapted:
        if message["role"] == "developer" and not able.developer:
            message["role"] = "system"
        if message.get("tool_calls"):
            _adapt_calls(message, able)
        if message["role"] == "tool":
            _adapt_result(message, able)
    if not able.system:
        adapted = _without_system(adapted)
    if not able.neighbours:
        adapted = _merged(adapted)
    if able.typed:
        for message in adapted:
            message["content"] = _parts(message["content"])
    return adapted


def _adapt_calls(message: Message, able: Abilities) -> None:
    if not able.arguments:
        calls = [
            {"name": c["function"]["name"], "arguments": c["function"]["arguments"]} for c in message["tool_calls"]
        ]
        said = "\n".join(f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls)
        message["content"] = "\n".join(filter(None, (message["content"], said)))
        del message["tool_calls"]
        return
    calls = []
    for call in message["tool_calls"]:
        function = dict(call["function"])
        if able.arguments == "string":
            function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
        calls.append({**call, "id": _id(call["id"], able), "function": function})
    message["tool_calls"] = calls
    if able.no_content and not message["content"]:
        message["content"] = None


def _adapt_result(message: Message, able: Abilities) -> None:
    message["tool_call_id"] = _id(message.get("tool_call_id", ""), able)
    if not able.tool_results:
        message["role"] = "user"
        message["content"] = f"<tool_response>\n{message['content']}\n</tool_response>"


def _id(call_id: str, able: Abilities) -> str:
    if not able.short_ids or (len(call_id) == 9 and call_id.isalnum()):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """What the system says goes before the next message, or is one of the user's own."""
    out: list[Message] = []
    said: list[str] = []
    for message in messages:
        if message["role"] == "system":
            said.append(message["content"])
            continue
        if said and message["role"] == "user":
            message["content"] = "\n\n".join([*said, message["content"]])
        elif said:
            out.append(_user("\n\n".join(said)))
        said = []
        out.append(message)
    return [*out, _user("\n\n".join(said))] if said else out


def _merged(messages: Sequence[Message]) -> list[Message]:
    out: list[Message] = []
    for message in messages:
        last = out[-1] if out else None
        if last and last["role"] == message["role"] != "tool" and not last.get("tool_calls"):
            contents = (last["content"], message["content"])
            out[-1] = {**last, **message, "content": "\n\n".join(filter(None, contents))}
        else:
            out.append(message)
    return out
