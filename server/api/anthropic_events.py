"""How Anthropic spells an answer: one message of content blocks, or the events that build it up; and its errors.

Events come as message_start, then per block content_block_start, its deltas, content_block_stop, then message_delta
and message_stop. Arguments of a call come whole, in one delta. Thinking is signed with nothing: there is nobody here
who would check it.
"""

from __future__ import annotations

import secrets
from typing import Any

from server.api import gojson
from server.api.streaming import SSE
from server.types import Chunk, Final, ToolCall

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}
ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
UNSIGNED: dict[str, Any] = {"type": "signature_delta", "signature": ""}


def error_object(message: str, status: int) -> dict[str, Any]:
    kind = ERRORS.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def request_id(log_id: str) -> str:
    """24 hex digits that end with the id of the log line."""
    return f"req_{log_id:0>24}"


def event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), gojson.encode({"type": kind} | fields))


class MessageEvents:
    """``stops``: the client's stop sequences, told from the model's own. ``most``: ``max_tokens``.

    ``input_tokens`` is wanted before the first piece is spelled.
    """

    content_type = SSE

    def __init__(self, model: str, *, stops: list[str], most: int, thinking: bool) -> None:
        self._stops = stops
        self._most = most
        self._thinking = thinking
        self._top: dict[str, Any] = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        self.input_tokens = 0
        self.begun = False
        self._called = False
        self._index = -1
        self._open = ""
        self._head = b""

    # -- a stream ---------------------------------------------------------------------------------------

    def piece(self, chunk: Chunk) -> bytes:
        data = b"" if self.begun else self._start()
        if chunk.thinking and self._thinking:
            data += self._delta("thinking", chunk.thinking)
        if chunk.content:
            data += self._delta("text", chunk.content)
        for call in chunk.tool_calls:
            data += self._call(call)
        return data

    def last(self, chunk: Chunk, final: Final) -> bytes:
        data = self.piece(chunk) + self._close()
        ending = {"delta": self._ending(final), "usage": usage_of(final)}
        return data + event("message_delta", ending) + event("message_stop", {})

    def error(self, message: str) -> bytes:
        return event("error", error_object(message, 500))

    def _start(self) -> bytes:
        self.begun = True
        usage = {"input_tokens": self.input_tokens, "output_tokens": 0}
        message = self._top | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return event("message_start", {"message": message})

    def _delta(self, kind: str, text: str) -> bytes:
        before = b""
        if self._open != kind:
            before = self._close() + self._begin(kind, _empty(kind))
            name, key = DELTAS[kind]
            self._head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % (
                self._index
            ) + b'{"type":"%s","%s":' % (name.encode(), key.encode())
        return b"%s%s%s}}\n\n" % (before, self._head, gojson.encode(text))

    def _begin(self, kind: str, block: dict[str, Any]) -> bytes:
        self._index += 1
        self._open = kind
        return event("content_block_start", {"index": self._index, "content_block": block})

    def _close(self) -> bytes:
        if not self._open:
            return b""
        signed = self._block_delta(UNSIGNED) if self._open == "thinking" else b""
        self._open = ""
        return signed + event("content_block_stop", {"index": self._index})

    def _call(self, call: ToolCall) -> bytes:
        self._called = True
        begun = self._close() + self._begin("tool_use", _tool_use(call, {}))
        arguments = gojson.encode(call.arguments).decode()
        return begun + self._block_delta({"type": "input_json_delta", "partial_json": arguments}) + self._close()

    def _block_delta(self, delta: dict[str, Any]) -> bytes:
        return event("content_block_delta", {"index": self._index, "delta": delta})

    # -- a whole answer ---------------------------------------------------------------------------------

    def whole(self, chunk: Chunk, final: Final) -> dict[str, Any]:
        self._called = bool(chunk.tool_calls)
        blocks: list[dict[str, Any]] = []
        if chunk.thinking and self._thinking:
            blocks.append(_empty("thinking") | {"thinking": chunk.thinking})
        if chunk.content:
            blocks.append(_empty("text") | {"text": chunk.content})
        blocks += [_tool_use(call, call.arguments) for call in chunk.tool_calls]
        return self._top | {"content": blocks} | self._ending(final) | {"usage": usage_of(final)}

    def _ending(self, final: Final) -> dict[str, Any]:
        if final.stop_sequence in self._stops:  # a stop string of the model's own is the end of its turn
            return {"stop_reason": "stop_sequence", "stop_sequence": final.stop_sequence}
        reason = STOP_REASONS.get(final.reason, "end_turn")
        if final.reason == "length" and 0 < final.output_tokens < self._most:
            reason = "model_context_window_exceeded"
        return {"stop_reason": "tool_use" if self._called and final.reason == "stop" else reason, "stop_sequence": None}


def usage_of(final: Final) -> dict[str, int]:
    return {"input_tokens": final.prompt_tokens, "output_tokens": final.output_tokens}


def _empty(kind: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "", "signature": ""} if kind == "thinking" else {"type": kind, "text": ""}


def _tool_use(call: ToolCall, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
