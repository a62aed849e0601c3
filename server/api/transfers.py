"""The routes of transfers: `pull` and `push`, answered as they go on."""

from __future__ import annotations

from aiohttp import web

from server.api import requestlog
from server.api.bodies import read_json
from server.api.decode import BOOL, STRING, Struct, decode
from server.api.progress import answer_events
from server.api.state import REGISTRY
from server.errors import InvalidRequest
from server.store.library import parse_name

FIELDS = {"model": STRING, "name": STRING, "insecure": BOOL, "stream": BOOL}
PULL = Struct("PullRequest", FIELDS)
PUSH = Struct("PushRequest", FIELDS)


async def pull(request: web.Request) -> web.StreamResponse:
    fields = decode(await read_json(request), PULL)
    name = parse_name(fields.get("model") or fields.get("name", ""))
    requestlog.of(request).model = name.short()
    events = request.app[REGISTRY].pull(name, insecure=fields.get("insecure", False))
    return await answer_events(request, events, wants_stream=fields.get("stream", True))


async def push(request: web.Request) -> web.StreamResponse:
    fields = decode(await read_json(request), PUSH)
    given = fields.get("model") or fields.get("name", "")
    if not given:
        raise InvalidRequest("model is required")
    name = parse_name(given)
    requestlog.of(request).model = name.short()
    events = request.app[REGISTRY].push(name, insecure=fields.get("insecure", False))
    return await answer_events(request, events, wants_stream=fields.get("stream", True))
