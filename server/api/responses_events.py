"""How a response is spelled: one object, or the events that build it up, each with its number.

``response.created``, ``.in_progress``, then per output item its ``added``, deltas and ``done``, and one of
``.completed``, ``.incomplete`` (cut at ``max_output_tokens`` or the window) and ``.failed`` at the end.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from server.api import gojson
from server.api.ollama import logprobs
from server.api.streaming import SSE
from server.types import Chunk, Final, Logprob, ToolCall


class ResponseEvents:
    """``reasoning_tokens`` is wanted before the last chunk is spelled. ``sealed``: reasoning items carry their text as
    ``encrypted_content``, for clients that send it back."""

    content_type = SSE

    def __init__(self, top: dict[str, Any], *, sealed: bool = False) -> None:
        self._top = {"id": f"resp_{secrets.token_hex(24)}", "object": "response", "created_at": int(time.time())} | top
        self._sealed = sealed
        self._number = -1
        self._begun = False
        self._open: dict[str, Any] | None = None
        self._text: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._output: list[dict[str, Any]] = []
        self.reasoning_tokens = 0

    @property
    def id(self) -> str:
        return str(self._top["id"])

    def whole(self, chunk: Chunk, final: Final) -> dict[str, Any]:
        self.piece(chunk)
        self._close()
        return self._ended(final)

    # -- a stream ---------------------------------------------------------------------------------------

    def piece(self, chunk: Chunk) -> bytes:
        data = b"" if self._begun else self._start()
        if chunk.thinking:
            data += self._thought(chunk.thinking)
        if chunk.content or (chunk.logprobs and not chunk.tool_calls):
            data += self._said(chunk.content, chunk.logprobs)
        for call in chunk.tool_calls:
            data += self._call(call)
        return data

    def last(self, chunk: Chunk, final: Final) -> bytes:
        data = self.piece(chunk) + self._close()
        response = self._ended(final)
        return data + self._event(f"response.{response['status']}", response=response)

    def error(self, message: str) -> bytes:
        error = {"code": "server_error", "message": message}
        failed = self._response("failed", output=self._output) | {"error": error}
        return self._event("response.failed", response=failed)

    def _start(self) -> bytes:
        self._begun = True
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        data = gojson.encode({"type": kind, "sequence_number": self._number} | fields)
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)

    def _at(self, **more: Any) -> dict[str, Any]:
        """Where in the response the open item is."""
        item = self._open or {}
        return {"item_id": item["id"], "output_index": len(self._output), **more}

    # -- items ------------------------------------------------------------------------------------------

    def _begin(self, item: dict[str, Any]) -> bytes:
        data = self._close()
        self._open, self._text, self._logprobs = item, [], []
        return data + self._event("response.output_item.added", output_index=len(self._output), item=item)

    def _thought(self, text: str) -> bytes:
        data = b""
        if self._open is None or self._open["type"] != "reasoning":
            data = self._begin({"id": _id("rs"), "type": "reasoning", "summary": [], "status": "in_progress"})
            part = {"type": "summary_text", "text": ""}
            data += self._event("response.reasoning_summary_part.added", **self._at(summary_index=0, part=part))
        self._text.append(text)
        return data + self._event("response.reasoning_summary_text.delta", **self._at(summary_index=0, delta=text))

    def _said(self, text: str, found: tuple[Logprob, ...]) -> bytes:
        data = b""
        if self._open is None or self._open["type"] != "message":
            item = {"id": _id("msg"), "type": "message", "role": "assistant", "status": "in_progress", "content": []}
            data = self._begin(item)
            data += self._event("response.content_part.added", **self._at(content_index=0, part=_part("", [])))
        self._text.append(text)
        spelled = logprobs(found)
        self._logprobs += spelled
        return data + self._event(
            "response.output_text.delta", **self._at(content_index=0, delta=text, logprobs=spelled)
        )

    def _call(self, call: ToolCall) -> bytes:
        item = {
            "id": _id("fc"),
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
            "status": "in_progress",
        }
        data = self._begin(item)
        arguments = gojson.encode(call.arguments).decode()
        data += self._event("response.function_call_arguments.delta", **self._at(delta=arguments))
        done = self._at(name=call.name, arguments=arguments)
        data += self._event("response.function_call_arguments.done", **done)
        return data + self._finish(item | {"arguments": arguments})

    def _close(self) -> bytes:
        """Ends the open item, if one is."""
        if self._open is None:
            return b""
        item, text = self._open, "".join(self._text)
        if item["type"] == "reasoning":
            part = {"type": "summary_text", "text": text}
            data = self._event("response.reasoning_summary_text.done", **self._at(summary_index=0, text=text))
            data += self._event("response.reasoning_summary_part.done", **self._at(summary_index=0, part=part))
            sealed = {"encrypted_content": text} if self._sealed else {}
            return data + self._finish(item | {"summary": [part]} | sealed)
        found = self._logprobs
        data = self._event("response.output_text.done", **self._at(content_index=0, text=text, logprobs=found))
        part = _part(text, found)
        data += self._event("response.content_part.done", **self._at(content_index=0, part=part))
        return data + self._finish(item | {"content": [part]})

    def _finish(self, item: dict[str, Any]) -> bytes:
        item["status"] = "completed"
        data = self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._open = None
        return data

    # -- the object -------------------------------------------------------------------------------------

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        empty: dict[str, Any] = {
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
        }
        return self._top | {"status": status} | empty | more

    def _ended(self, final: Final) -> dict[str, Any]:
        usage = {
            "input_tokens": final.prompt_tokens,
            "input_tokens_details": {"cached_tokens": final.cached_tokens},
            "output_tokens": final.output_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": final.prompt_tokens + final.output_tokens,
        }
        if final.reason == "length":
            details = {"reason": "max_output_tokens"}
            return self._response("incomplete", incomplete_details=details, output=self._output, usage=usage)
        return self._response("completed", completed_at=int(time.time()), output=self._output, usage=usage)


def _part(text: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": found}


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"
