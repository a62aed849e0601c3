"""How OpenAI spells chat answers and completions: ``data:`` events, or one object with all choices.

One writer per choice; those of one request share its id.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from server.api import gojson
from server.api.ollama import logprobs
from server.api.streaming import SSE
from server.types import Chunk, Final, Logprob, ToolCall

FINGERPRINT = "fp_ollama"
DONE = b"data: [DONE]\n\n"
Ended = Sequence[tuple[Chunk, Final]]


def chat_top(model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{random.randrange(999)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


class ChatEvents:
    """``data:`` events of one chat answer; the role stands in the first one only."""

    content_type = SSE

    def __init__(self, top: dict[str, Any], index: int = 0, *, usage: bool = False) -> None:
        self._usage = usage
        self._begun = False
        self._called = False
        self._top = top
        self._head = b"data: " + gojson.encode(top)[:-1] + b',"choices":'
        self._choice = b'%s[{"index":%d,' % (self._head, index)

    def piece(self, chunk: Chunk) -> bytes:
        delta = b"" if self._begun else b'"role":"assistant",'
        self._begun = True
        if chunk.content or not (chunk.thinking or chunk.tool_calls):
            delta += b'"content":' + gojson.encode(chunk.content) + b","
        if chunk.thinking:
            delta += b'"reasoning":' + gojson.encode(chunk.thinking) + b","
        if chunk.tool_calls:
            self._called = True
            delta += b'"tool_calls":' + gojson.encode([tool_call(call) for call in chunk.tool_calls]) + b","
        tail = b""
        if chunk.logprobs:
            tail = b',"logprobs":' + gojson.encode({"content": logprobs(chunk.logprobs)})
        return b'%s"delta":{%s},"finish_reason":null%s}]}\n\n' % (self._choice, delta[:-1], tail)

    def last(self, chunk: Chunk, final: Final) -> bytes:
        return self.end(chunk, final) + self.close(final)

    def end(self, chunk: Chunk, final: Final) -> bytes:
        text = chunk.content or chunk.thinking or chunk.tool_calls or chunk.logprobs
        before = self.piece(chunk) if text else b""
        reason = gojson.encode(finish_reason(final, called=self._called))
        return b'%s%s"delta":{},"finish_reason":%s}]}\n\n' % (before, self._choice, reason)

    def close(self, final: Final) -> bytes:
        usage = b""
        if self._usage:
            usage = self._head + b'[],"usage":' + gojson.encode(usage_of(final)) + b"}\n\n"
        return usage + DONE

    def error(self, message: str) -> bytes:
        return error_event(message)


def chat_object(top: dict[str, Any], answers: Ended, total: Final) -> dict[str, Any]:
    choices = [_chat_choice(index, chunk, final) for index, (chunk, final) in enumerate(answers)]
    return top | {"object": "chat.completion", "choices": choices, "usage": usage_of(total)}


def _chat_choice(index: int, chunk: Chunk, final: Final) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": chunk.content}
    if chunk.thinking:
        message["reasoning"] = chunk.thinking
    if chunk.tool_calls:
        message["tool_calls"] = [tool_call(call) for call in chunk.tool_calls]
    reason = finish_reason(final, called=bool(chunk.tool_calls))
    choice: dict[str, Any] = {"index": index, "message": message, "finish_reason": reason}
    return choice | ({"logprobs": {"content": logprobs(chunk.logprobs)}} if chunk.logprobs else {})


def finish_reason(final: Final, *, called: bool) -> str:
    return "tool_calls" if called and final.reason == "stop" else final.reason


class CompletionEvents:
    """The older completion: the model's name stands behind the choices, each event may carry an empty usage.

    ``echo`` is the text before the answer's first piece.
    """

    content_type = SSE

    def __init__(self, model: str, index: int = 0, *, usage: bool = False, echo: str = "", top: Any = None) -> None:
        self._top = top or completion_top()
        self._names = {"model": model, "system_fingerprint": FINGERPRINT}
        self._usage = usage
        self._echo = echo
        self._offset = 0
        none = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
        self._head = b"data: " + gojson.encode(self._top)[:-1] + b',"choices":[{"text":'
        self._index = b',"index":%d,' % index
        self._tail = b"}]," + gojson.encode(self._names | (none if usage else {}))[1:] + b"\n\n"

    def piece(self, chunk: Chunk) -> bytes:
        return self._event(chunk, b"null")

    def last(self, chunk: Chunk, final: Final) -> bytes:
        return self.end(chunk, final) + self.close(final)

    def end(self, chunk: Chunk, final: Final) -> bytes:
        before = self.piece(chunk) if chunk.content or chunk.logprobs or self._echo else b""
        return before + self._event(Chunk(), gojson.encode(final.reason))

    def close(self, final: Final) -> bytes:
        usage = b""
        if self._usage:
            whole = self._top | {"choices": []} | self._names | {"usage": usage_of(final)}
            usage = b"data: " + gojson.encode(whole) + b"\n\n"
        return usage + DONE

    def error(self, message: str) -> bytes:
        return error_event(message)

    def _event(self, chunk: Chunk, reason: bytes) -> bytes:
        text, self._echo = self._echo + chunk.content, ""
        found = b""
        if chunk.logprobs:
            found = b'"logprobs":' + gojson.encode(old_logprobs(chunk.logprobs, self._offset)) + b","
            self._offset += sum(len(item.token) for item in chunk.logprobs)
        return b'%s%s%s%s"finish_reason":%s%s' % (
            self._head, gojson.encode(text), self._index, found, reason, self._tail,
        )  # fmt: skip


def completion_top() -> dict[str, Any]:
    return {"id": f"cmpl-{random.randrange(999)}", "object": "text_completion", "created": int(time.time())}


def completion_object(model: str, answers: Ended, total: Final, echo: str = "") -> dict[str, Any]:
    choices: list[dict[str, Any]] = []
    for index, (chunk, final) in enumerate(answers):
        choice: dict[str, Any] = {"text": echo + chunk.content, "index": index}
        if chunk.logprobs:
            choice["logprobs"] = old_logprobs(chunk.logprobs)
        choices.append(choice | {"finish_reason": final.reason})
    names = {"model": model, "system_fingerprint": FINGERPRINT}
    return completion_top() | names | {"choices": choices, "usage": usage_of(total)}


def old_logprobs(found: Sequence[Logprob], offset: int = 0) -> dict[str, Any]:
    """The four parallel lists of the older completion; ``offset``: characters of the answer before the first token."""
    offsets = []
    for item in found:
        offsets.append(offset)
        offset += len(item.token)
    return {
        "tokens": [item.token for item in found],
        "token_logprobs": [item.logprob for item in found],
        "top_logprobs": [{other.token: other.logprob for other in item.top} for item in found],
        "text_offset": offsets,
    }


def error_event(message: str) -> bytes:
    error = {"message": message, "type": "api_error", "param": None, "code": None}
    return b"data: " + gojson.encode({"error": error}) + b"\n\n"


def usage_of(final: Final) -> dict[str, int]:
    return {
        "prompt_tokens": final.prompt_tokens,
        "completion_tokens": final.output_tokens,
        "total_tokens": final.prompt_tokens + final.output_tokens,
    }


def tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": gojson.encode(call.arguments).decode()}
    return {"id": call.id, "index": call.index or 0, "type": "function", "function": function}
