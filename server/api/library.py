"""The native routes about models on disk and in memory: tags, show, create, copy, delete, blobs, ps.

Whatever reads or writes the disk runs in a thread, so that streams beside it go on.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from server.api import requestlog
from server.api.bodies import read_json
from server.api.decode import ANY, BOOL, OBJECT, STRING, Struct, decode, list_of, map_of
from server.api.progress import answer_events
from server.api.requests import MESSAGES, message
from server.api.state import CONFIG, HOUSE, REGISTRY
from server.api.streaming import json_response
from server.errors import InvalidRequest
from server.manager.resident import Resident
from server.store import gojson as store_json
from server.store.blobs import Blobs
from server.store.create import create as create_model
from server.store.digests import Digest
from server.store.library import Library
from server.store.requests import CreateRequest, check
from server.store.show import local_time

EPOCH = datetime.fromtimestamp(0, UTC)
CHUNK = 1 << 20
BLOB_SECONDS_PER_CHUNK = 30.0

SHOW = Struct(
    "ShowRequest",
    {"model": STRING, "name": STRING, "system": STRING, "template": STRING, "verbose": BOOL, "options": OBJECT},
)
COPY = Struct("CopyRequest", {"source": STRING, "destination": STRING})
DELETE = Struct("DeleteRequest", {"model": STRING, "name": STRING})
FILES = map_of(STRING, "map[string]string")
CREATE = Struct(
    "CreateRequest",
    {
        **dict.fromkeys(("model", "name", "from", "quantize", "quantization", "draft_quantize"), STRING),
        **dict.fromkeys(("template", "system", "renderer", "parser", "requires", "remote_host"), STRING),
        "files": FILES,
        "adapters": FILES,
        "draft_files": FILES,
        "imatrix": FILES,
        "calibration": FILES,
        **dict.fromkeys(("calibrate_self", "keep_imatrix", "allow_requantize"), BOOL),
        "tensor_types": list_of(STRING, "[]string", most=1024),
        "license": ANY,
        "parameters": OBJECT,
        "messages": MESSAGES,
        "info": OBJECT,
        "stream": BOOL,
    },
)


def library_of(request: web.Request) -> Library:
    return request.app[HOUSE].library


async def tags(request: web.Request) -> web.Response:
    return json_response({"models": await asyncio.to_thread(library_of(request).tags)})


async def show(request: web.Request) -> web.Response:
    fields = decode(await read_json(request), SHOW)
    name = _name(fields)
    requestlog.of(request).model = name
    agent = request.headers.get("User-Agent", "")
    body = await asyncio.to_thread(_show, library_of(request), name, fields, agent)
    return web.Response(body=body, headers={"Content-Type": "application/json; charset=utf-8"})


def _show(library: Library, name: str, fields: dict[str, Any], agent: str) -> bytes:
    answer = library.show(
        name,
        verbose=fields.get("verbose", False),
        system=fields.get("system", ""),
        options=fields.get("options", {}),
    )
    if agent.startswith("GitHubCopilotChat/"):
        answer["model_info"]["general.basename"] = name
    # Go's numbers (0.00001, not 1e-05): metadata is where clients would see the difference.
    return store_json.dumps(answer).replace("\u0085", "\\u0085").encode()


async def copy(request: web.Request) -> web.Response:
    fields = decode(await read_json(request), COPY)
    source, destination = fields.get("source", ""), fields.get("destination", "")
    await asyncio.to_thread(library_of(request).copy, source, destination)
    return web.Response()


async def delete(request: web.Request) -> web.Response:
    name = _name(decode(await read_json(request), DELETE))
    await asyncio.to_thread(library_of(request).delete, name)
    return web.Response()


def _name(fields: dict[str, Any]) -> str:
    """``model``, or ``name`` as older clients say; InvalidRequest when neither is given."""
    name: str = fields.get("model") or fields.get("name", "")
    if not name:
        raise InvalidRequest("model is required")
    return name


# -- blobs ----------------------------------------------------------------------------------------------


async def blob_check(request: web.Request) -> web.Response:
    digest = Digest.parse(request.match_info["digest"])
    there = await asyncio.to_thread(library_of(request).blobs.has, digest)
    return web.Response(status=200 if there else 404)


async def blob_upload(request: web.Request) -> web.Response:
    """201 when stored, 200 when it was there (the body is not read then)."""
    digest = Digest.parse(request.match_info["digest"])
    blobs = library_of(request).blobs
    if await asyncio.to_thread(blobs.has, digest):
        return web.Response(status=200)
    await _store(request, blobs, digest)
    return web.Response(status=201)


async def _store(request: web.Request, blobs: Blobs, digest: Digest) -> None:
    with blobs.writer(request.content_length) as writer:
        while True:
            try:
                async with asyncio.timeout(BLOB_SECONDS_PER_CHUNK):
                    part = await _read_chunk(request)
            except TimeoutError:
                raise InvalidRequest("the upload stalled", status=408) from None
            except web.RequestPayloadError:
                raise InvalidRequest("the upload broke off") from None
            if not part:
                break
            await asyncio.to_thread(writer.write, part)
        await asyncio.to_thread(writer.commit, digest)


async def _read_chunk(request: web.Request) -> bytes:
    """About a megabyte: large enough that hashing it is worth a thread's while."""
    parts, size = [], 0
    while size < CHUNK and (part := await request.content.readany()):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


# -- create ---------------------------------------------------------------------------------------------


async def create(request: web.Request) -> web.StreamResponse:
    fields = decode(await read_json(request), CREATE)
    wanted = CreateRequest(
        fields.get("model") or fields.get("name", ""),
        source=fields.get("from", ""),
        quantize=fields.get("quantize") or fields.get("quantization", ""),
        messages=tuple(message(item or {}) for item in fields.get("messages", ())),
        tensor_types=tuple(text or "" for text in fields.get("tensor_types", ())),
        **{name: fields[name] for name in PASSED_ON if name in fields},
    )
    check(wanted)
    requestlog.of(request).model = wanted.model
    environment, registry = request.app[CONFIG].child_environment, request.app[REGISTRY]
    events = create_model(library_of(request), wanted, environment=environment, pull=registry.pull_missing)
    return await answer_events(request, events, wants_stream=fields.get("stream", True))


PASSED_ON = (
    *("files", "adapters", "draft_files", "draft_quantize", "template", "system", "license", "parameters"),
    *("renderer", "parser", "requires", "info", "remote_host"),
    *("imatrix", "calibration", "calibrate_self", "keep_imatrix", "allow_requantize"),
)


# -- in memory ------------------------------------------------------------------------------------------


async def ps(request: web.Request) -> web.Response:
    return json_response({"models": [_resident(entry) for entry in request.app[HOUSE].manager.resident()]})


def _resident(entry: Resident) -> dict[str, Any]:
    """Ollama's keys first, then ours."""
    spec = entry.spec
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": spec.family,
        "families": list(spec.families) or None,
        "parameter_size": spec.parameter_size,
        "quantization_level": spec.quantization,
    }
    made: dict[str, Any] = {
        "name": spec.name,
        "model": spec.name,
        "size": entry.size,
        "digest": spec.digest,
        "details": details,
        "expires_at": local_time((entry.expires_at - EPOCH) // timedelta(microseconds=1) * 1000),
        "size_vram": entry.size_vram,
        "context_length": entry.context_length,
        "state": entry.state,
        "slots": entry.slots,
        "running": entry.running,
        "queued": entry.queued,
        "tokens_per_second": round(entry.tokens_per_second, 2),
    }
    if entry.state == "loading":
        made["progress"] = round(entry.progress, 3)
    return made
