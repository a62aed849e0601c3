"""Reading request bodies within limits of size, time and encoding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiohttp import web

from server.errors import InvalidRequest, TooLarge

MIB = 1024 * 1024
MAX_JSON = 8 * MIB
MAX_JSON_WITH_IMAGES = 64 * MIB
BODY_SECONDS = 30.0
ENCODINGS = ("", "identity", "gzip", "deflate", "br", "zstd")


class SlowBody(InvalidRequest):
    status = 408


class UnknownEncoding(InvalidRequest):
    status = 415


async def read_json(request: web.Request, *, images: bool = False) -> bytes:
    """The whole body. Limits are on what it unpacks to; time allowed grows with what has arrived.

    ``images``: there may be some, which ``check_text`` then takes into account.
    """
    limit = MAX_JSON_WITH_IMAGES if images else MAX_JSON
    if request.headers.get("Content-Encoding", "").lower() not in ENCODINGS:
        raise UnknownEncoding("the request's Content-Encoding is not supported")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(BODY_SECONDS) as timeout:
            while part := await request.content.readany():
                body += part
                if len(body) > limit:
                    raise _too_large(limit)
                timeout.reschedule(started + BODY_SECONDS + len(body) / MIB)
    except TimeoutError:
        raise SlowBody("the request body did not arrive in time") from None
    except web.RequestPayloadError:
        raise InvalidRequest("the request body is broken") from None
    return bytes(body)


def check_text(body: bytes, images: Iterable[bytes]) -> None:
    """What of ``body`` is not images must be within the limit of a body without any."""
    if len(body) - sum((len(image) + 2) // 3 * 4 for image in images) > MAX_JSON:
        raise _too_large(MAX_JSON)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request body is larger than {limit // MIB} MiB")
