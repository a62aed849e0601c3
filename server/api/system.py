"""What the server says of itself: alive, ready, its version, metrics, its API's description, and no account."""

from __future__ import annotations

from aiohttp import web

from server.api import admission
from server.api.state import CONFIG, HOUSE, METRICS
from server.api.streaming import json_response
from server.config import OLLAMA_VERSION, VERSION
from server.errors import Forbidden, ServerError

PING_SECONDS = 5.0


class NoAccount(ServerError):
    """Nobody signs in to a server of one's own."""


async def root(request: web.Request) -> web.Response:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return web.Response(body=b"Ollama is running", headers=headers)


async def version(request: web.Request) -> web.Response:
    return json_response({"version": OLLAMA_VERSION, "llamada": VERSION})


async def status(request: web.Request) -> web.Response:
    source = "env" if request.app[CONFIG].no_cloud else "config"
    return json_response({"cloud": {"disabled": True, "source": source}})


async def healthz(request: web.Request) -> web.Response:
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Asks the engine loop of every resident model, so that a hung one is seen behind an open port."""
    if request.app[admission.KEY].draining:
        return json_response({"status": "draining"}, 503)
    silent = await request.app[HOUSE].manager.ping(PING_SECONDS)
    if silent:
        return json_response({"status": "not ready", "silent": silent}, 503)
    return json_response({"status": "ready"})


async def metrics(request: web.Request) -> web.Response:
    text = request.app[METRICS].exposition()
    return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def me(request: web.Request) -> web.Response:
    raise NoAccount("account unavailable", status=503)


async def signout(request: web.Request) -> web.Response:
    raise NoAccount("you are not currently signed in", status=401)


async def web_tools(request: web.Request) -> web.Response:
    raise Forbidden("ollama cloud is disabled: web search is unavailable")


async def recommendations(request: web.Request) -> web.Response:
    raise Forbidden("ollama cloud is disabled: model recommendations are unavailable")
