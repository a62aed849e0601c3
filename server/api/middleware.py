"""Around every handler: who may ask (Host, Origin, drain), what an error looks like, one log line.

Every exception of the house ends here and becomes Ollama's, OpenAI's or Anthropic's error shape by the path's
prefix; what is not ours becomes ``internal error (id=…)`` with its traceback in the log alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import html

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from server.api import admission, anthropic_events, gojson, requestlog
from server.api.origins import ORIGINS
from server.api.state import METRICS
from server.api.streaming import json_response
from server.config import VERSION
from server.errors import Busy, Forbidden, InvalidRequest, ServerError, Unsupported

METHODS = ("HEAD", "GET", "POST", "PUT", "PATCH", "DELETE")
CLIENT_LEFT = 499
ANTHROPIC = "/v1/messages"


@web.middleware
async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The log line, the metrics and the rendering of errors."""
    log = request[requestlog.KEY] = requestlog.RequestLog(f"{request.method} {request.path}")
    status = CLIENT_LEFT
    try:
        response = await _answered(request, handler, log)
        status = response.status
        return response
    except asyncio.CancelledError as error:
        if not admission.cut_short(request, error):
            log.outcome = "cancelled"
            raise
        status = 503
        return render(request, Busy(admission.SHUTTING_DOWN), log)
    except ConnectionError as error:
        # The client has left. aiohttp would take the error for ours, and log it with a traceback.
        log.outcome = "cancelled"
        raise asyncio.CancelledError from error
    finally:
        log.report(status)
        metrics = request.app[METRICS]
        metrics.request_done(status)
        if log.final is not None:
            metrics.answered(log.model, log.final, ttft_ns=log.ttft, elapsed_ns=log.elapsed())


async def _answered(request: web.Request, handler: Handler, log: requestlog.RequestLog) -> web.StreamResponse:
    try:
        refused = request.app[ORIGINS].refuse(request)
        if refused is not None:
            return refused
        # Reading is always allowed; what costs work is counted, and refused while draining.
        work = contextlib.nullcontext() if request.method in ("GET", "HEAD") else request.app[admission.KEY].work()
        async with work:
            return await handler(request)
    except web.HTTPException as error:
        return _routing(request, error)
    except ConnectionError:
        raise
    except Exception as error:
        return render(request, error, log)


def render(request: web.Request, error: Exception, log: requestlog.RequestLog) -> web.Response:
    """The error's status and text in the shape of the protocol that was spoken."""
    text = log.failed(error)
    status = error.status if isinstance(error, ServerError) else 500
    if isinstance(error, Forbidden) and not text:
        return web.Response(status=403, body=b"")
    if request.path.startswith(ANTHROPIC):
        error_object = anthropic_events.error_object(text, status)
        response = json_response(error_object | {"request_id": anthropic_events.request_id(log.id)}, status)
    elif request.path.startswith("/v1/"):
        from_handler = not isinstance(error, InvalidRequest) or isinstance(error, Unsupported)
        response = _openai(text, status, from_handler=from_handler)
    else:
        kind = "application/json" if log.streaming else "application/json; charset=utf-8"
        body = gojson.encode({"error": text})
        response = web.Response(body=body, status=status, headers={"Content-Type": kind})
    if isinstance(error, Busy):
        response.headers["Retry-After"] = str(max(1, round(error.retry_after or 1)))
    if status in (408, 413):
        response.force_close()
    return response


def _openai(text: str, status: int, *, from_handler: bool) -> web.Response:
    """Ollama's translator writes its own refusals without a newline and passes its handlers' on with one."""
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    body = gojson.encode({"error": {"message": text, "type": kind, "param": None, "code": None}})
    if from_handler:
        return web.Response(body=body + b"\n", status=status, headers={"Content-Type": "application/json"})
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json; charset=utf-8"})


def _routing(request: web.Request, error: web.HTTPException) -> web.Response:
    """404, 405 and the redirect of a path with a slash too many, as Ollama's router answers."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        return _plain(405, "405 method not allowed", {hdrs.ALLOW: allowed(error)})
    if isinstance(error, web.HTTPNotFound):
        return _plain(404, "404 page not found")
    if error.status >= 400:
        return _plain(error.status, f"{error.status} {error.reason}".lower())
    return web.Response(status=error.status, headers={hdrs.LOCATION: error.headers.get(hdrs.LOCATION, "")})


def allowed(error: web.HTTPMethodNotAllowed) -> str:
    return ", ".join(method for method in METHODS if method in error.allowed_methods)


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=text.encode(), status=status, headers={"Content-Type": "text/plain"} | (headers or {}))


@web.middleware
async def slashes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A trailing slash redirects to the path without it, where that path exists."""
    unknown = isinstance(request.match_info.http_exception, web.HTTPNotFound)
    if unknown and request.path.endswith("/") and request.path != "/":
        plain = request.rel_url.with_path(request.path.rstrip("/") or "/", keep_query=True)
        found = await request.app.router.resolve(request.clone(rel_url=plain))
        if found.http_exception is None:
            return _moved(request.method, str(plain))
    return await handler(request)


def _moved(method: str, location: str) -> web.Response:
    """As Go's standard library words it: a link for those who read it, GET alone is for good."""
    headers = {hdrs.LOCATION: location}
    if method in ("GET", "HEAD"):
        headers[hdrs.CONTENT_TYPE] = "text/html; charset=utf-8"
    if method != "GET":
        return web.Response(status=307, headers=headers)
    body = f'<a href="{html.escape(location)}">Moved Permanently</a>.\n\n'
    return web.Response(status=301, headers=headers, body=body.encode())


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """On every answer, streams included, just before its headers leave."""
    log = request.get(requestlog.KEY)
    if log is not None:
        response.headers["X-Request-Id"] = log.id
        if request.path.startswith(ANTHROPIC):
            response.headers["Request-Id"] = anthropic_events.request_id(log.id)
    response.headers[hdrs.SERVER] = f"llamada/{VERSION}"
    request.app[ORIGINS].mark(request, response)
