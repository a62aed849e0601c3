"""One repository of one registry, over HTTP: requests with the right credentials, manifests, places of blobs.

Redirects are followed by rule: within the registry with its credentials, to any other origin without them and without
any header of ours.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from modelfiles.names import ModelName
from server.errors import InvalidRequest, ServerError, UpstreamError
from server.store.digests import Digest
from server.store.manifests import MANIFEST_TYPE, MAX_BYTES
from server.store.registry.auth import AccessDenied, Auth
from server.store.registry.transport import MAX_REDIRECTS, REDIRECTS, Body, Transport, read_bounded, redirect_target

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MAX_ERROR = 16 * 1024
BUSY = (429, 502, 503, 504)
BUSY_TRIES = 3
MAX_WAIT = 60.0
Headers = Mapping[str, str]


class StatusError(UpstreamError):
    """The registry answered with a status that is no success. ``wait``: seconds it asked for (Retry-After)."""

    def __init__(self, code: int, text: str, wait: float | None = None) -> None:
        super().__init__(text, status=500)
        self.code = code
        self.wait = wait


def origin_of(host: str, *, insecure: bool) -> URL:
    """``host[:port]`` of a model's name. InvalidRequest where that is no host."""
    bare, _, port = host.partition(":")
    if port and not (re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536):
        raise InvalidRequest("invalid model name")
    try:
        return URL.build(scheme="http" if insecure else "https", host=bare, port=int(port) if port else None)
    except ValueError:
        raise InvalidRequest("invalid model name") from None


class Remote:
    """``origin``: scheme, host and port; ``insecure`` allows plain http here and at redirects."""

    def __init__(self, transport: Transport, origin: URL, name: ModelName, *, insecure: bool) -> None:
        self.origin = origin
        self.insecure = insecure
        self.host = name.host.lower()
        self.repository = f"{name.namespace}/{name.model}"
        self._transport = transport
        self._name = name
        self._auth = Auth(transport, origin, insecure=insecure)
        self.backoff = transport.settings.backoff

    def at(self, host: str) -> Remote:
        """The same repository at another host of its owner, with credentials of its own; itself for no host."""
        if not host:
            return self
        return Remote(self._transport, URL.build(scheme="https", host=host), self._name, insecure=self.insecure)

    def url(self, path: str) -> URL:
        """``path`` below the repository: ``manifests/latest``."""
        return self.origin / "v2" / self.repository / path

    def blob(self, digest: Digest) -> URL:
        return self.url(f"blobs/{digest}")

    def owns(self, url: URL) -> bool:
        """Whether our credentials may travel to ``url``."""
        return url.origin() == self.origin.origin()

    @asynccontextmanager
    async def request(
        self, method: str, url: URL, *, headers: Headers | None = None, body: Body | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """With credentials where they belong; a 401 is answered once. Any other status is the caller's."""
        for retry in (True, False):
            used = self._auth.header if self.owns(url) else ""
            given = {**(headers or {}), **({"Authorization": used} if used else {})}
            async with self._transport.send(method, url, headers=given, body=body, insecure=self.insecure) as response:
                if response.status != 401 or not self.owns(url):
                    yield response
                    return
                challenge = ", ".join(response.headers.getall("WWW-Authenticate", []))
            if retry:
                await self._auth.answer(challenge, used)
        raise AccessDenied

    @asynccontextmanager
    async def follow(self, url: URL, headers: Headers) -> AsyncIterator[tuple[aiohttp.ClientResponse, URL]]:
        """GET to the end of its redirects: the answer and where it came from."""
        for _ in range(MAX_REDIRECTS + 1):
            async with self.request("GET", url, headers=headers) as response:
                if response.status not in REDIRECTS:
                    yield response, url
                    return
                url = redirect_target(response, url)
        raise UpstreamError(f"maximum redirects exceeded ({MAX_REDIRECTS}) for directURL", status=500)

    async def text(self, url: URL, headers: Headers, limit: int) -> tuple[bytes, Headers]:
        """A small document. StatusError; a registry that is busy is asked again a few times."""
        tries = 0
        while True:
            async with self.follow(url, headers) as (response, _):
                data = await read_bounded(response, limit if response.status == 200 else MAX_ERROR)
                if response.status == 200:
                    return data, response.headers
                error = status_error(response, data)
            tries += 1
            if response.status not in BUSY or tries > BUSY_TRIES:
                raise error
            await asyncio.sleep(min(self.backoff * 2 ** (tries - 1) if error.wait is None else error.wait, MAX_WAIT))

    async def manifest(self, tag: str) -> bytes:
        accept = {"Accept": f"{MANIFEST_TYPE}, {OCI_MANIFEST}"}
        data, _ = await self.text(self.url(f"manifests/{tag}"), accept, MAX_BYTES)
        return data

    async def put_manifest(self, tag: str, data: bytes, media_type: str) -> None:
        url, headers = self.url(f"manifests/{tag}"), {"Content-Type": media_type}
        async with self.request("PUT", url, headers=headers, body=lambda: data) as response:
            await check(response)

    async def has(self, digest: Digest) -> bool:
        """Whether the registry has the blob, by HEAD; a redirect means that it does."""
        async with self.request("HEAD", self.blob(digest)) as response:
            if response.status == 404:
                return False
            if response.status not in REDIRECTS:
                await check(response)
            return True


async def check(response: aiohttp.ClientResponse) -> None:
    """StatusError unless the answer is a success."""
    if response.status >= 300:
        try:
            data = await read_bounded(response, MAX_ERROR)
        except ServerError:
            data = b""
        raise status_error(response, data)


def status_error(response: aiohttp.ClientResponse, data: bytes) -> StatusError:
    """In Ollama's words: not there, not for us, or the status with what the registry said."""
    code = response.status
    if code == 404:
        return StatusError(code, "file does not exist")
    if code in (401, 403) and _denied(data):
        return StatusError(code, "unauthorized: access denied")
    return StatusError(code, f"{code}: {data.decode('utf-8', 'replace').strip()}", retry_after(response))


def _denied(data: bytes) -> bool:
    try:
        errors = json.loads(data)["errors"]
        return any(error["code"] in ("UNAUTHORIZED", "DENIED") for error in errors)
    except (ValueError, KeyError, TypeError):
        return False


def retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if re.fullmatch(r"\d{1,6}", text) else None
