"""OpenAI's ``/v1/responses``: a translation to the same hallway, and a memory of what was answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web

from server import inference
from server.api import requestlog
from server.api.bodies import check_text, read_json
from server.api.decode import decode
from server.api.responses_events import ResponseEvents
from server.api.responses_items import messages_of
from server.api.responses_requests import ENCRYPTED, RESPONSE, chat_request
from server.api.responses_store import RESPONSES, Conversation
from server.api.state import HOUSE
from server.api.streaming import collect, joined, json_response, stream
from server.inference import House
from server.types import ChatRequest, Chunk, Message, TokenizeRequest

ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "previous_response_id": None,
    "user": None,
}


async def responses(request: web.Request) -> web.StreamResponse:
    body = await read_json(request, images=True)
    fields = decode(body, RESPONSE, empty="EOF")
    store, house = request.app[RESPONSES], request.app[HOUSE]
    before = store.find(fields["previous_response_id"]) if fields.get("previous_response_id") else ()
    said = messages_of(fields.get("input"), before)
    wanted = chat_request(fields, before + said)
    check_text(body, (image for message in said for image in message.images))
    requestlog.of(request).model = wanted.model
    writer = ResponseEvents(_top(fields, wanted), sealed=ENCRYPTED in fields.get("include", ()))

    def keep(answer: Chunk) -> None:
        if fields.get("store", True):
            store.keep(writer.id, (*before, *said, *_spoken(answer)))

    chunks = _finished(house, wanted, await inference.chat(house, wanted), writer, keep)
    if fields.get("stream"):
        return await stream(request, chunks, writer)
    return json_response(writer.whole(*await collect(request, chunks)), newline=True, charset=False)


async def _finished(
    house: House,
    wanted: ChatRequest,
    chunks: AsyncGenerator[Chunk, None],
    writer: ResponseEvents,
    keep: Callable[[Chunk], None],
) -> AsyncGenerator[Chunk, None]:
    """The same chunks; before the last goes out, the thoughts are counted and the answer is kept."""
    parts: list[Chunk] = []
    async with aclosing(chunks):
        async for chunk in chunks:
            parts.append(chunk)
            if chunk.final is not None:
                answer = joined(parts)
                if answer.thinking:
                    counting = TokenizeRequest(wanted.model, answer.thinking, options=wanted.options)
                    writer.reasoning_tokens = len(await inference.tokenize(house, counting))
                keep(answer)
            yield chunk


def _spoken(answer: Chunk) -> Conversation:
    return (Message("assistant", answer.content, answer.thinking, (), answer.tool_calls),)


def _top(fields: dict[str, Any], wanted: ChatRequest) -> dict[str, Any]:
    """What of the request an answer repeats, with the defaults that were taken."""
    return {name: fields.get(name, default) for name, default in ECHOED.items()} | {
        "model": wanted.model,
        "background": False,
        "parallel_tool_calls": wanted.tool_choice.parallel,
        "reasoning": {"effort": None, "summary": None} | fields.get("reasoning", {}),
        "service_tier": "default",
        "store": fields.get("store", True),
        "temperature": wanted.options["temperature"],
        "text": {"format": {"type": "text"}} | fields.get("text", {}),
        "tool_choice": fields.get("tool_choice", "auto"),
        "tools": fields.get("tools", []),
        "top_logprobs": wanted.top_logprobs,
        "top_p": wanted.options["top_p"],
        "truncation": fields.get("truncation", "auto"),
    }
