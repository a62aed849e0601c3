"""``/api/tokenize`` and ``/api/detokenize``: a text as the numbers that its model sees, and back."""

from __future__ import annotations

from aiohttp import web

from server import inference
from server.api import requestlog
from server.api.bodies import read_json
from server.api.decode import BOOL, INT, KEEP_ALIVE, OBJECT, STRING, Struct, decode, list_of
from server.api.requests import model_options
from server.api.state import HOUSE
from server.api.streaming import json_response
from server.errors import InvalidRequest
from server.types import DetokenizeRequest, TokenizeRequest

MAX_TOKENS = 4_000_000
TOKENIZE = Struct(
    "TokenizeRequest",
    {
        "model": STRING,
        "text": STRING,
        "add_special": BOOL,
        "parse_special": BOOL,
        "keep_alive": KEEP_ALIVE,
        "options": OBJECT,
    },
)
DETOKENIZE = Struct(
    "DetokenizeRequest",
    {"model": STRING, "tokens": list_of(INT, "[]int", most=MAX_TOKENS), "keep_alive": KEEP_ALIVE, "options": OBJECT},
)


async def tokenize(request: web.Request) -> web.Response:
    fields = decode(await read_json(request), TOKENIZE)
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    wanted = TokenizeRequest(
        fields["model"],
        fields.get("text", ""),
        add_special=fields.get("add_special", False),
        parse_special=fields.get("parse_special", True),
        options=model_options(fields),
        keep_alive=fields.get("keep_alive"),
    )
    requestlog.of(request).model = wanted.model
    tokens = await inference.tokenize(request.app[HOUSE], wanted)
    return json_response({"model": wanted.model, "tokens": tokens})


async def detokenize(request: web.Request) -> web.Response:
    fields = decode(await read_json(request), DETOKENIZE)
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    tokens = tuple(token or 0 for token in fields.get("tokens", ()))
    wanted = DetokenizeRequest(
        fields["model"], tokens, options=model_options(fields), keep_alive=fields.get("keep_alive")
    )
    requestlog.of(request).model = wanted.model
    text = await inference.detokenize(request.app[HOUSE], wanted)
    return json_response({"model": wanted.model, "text": text})
