"""HTTP to registries: one request, one answer. No redirect is followed here, nothing is decompressed, no cookie kept.

Every URL is checked before a packet goes out. Errors of the network become ``UpstreamError`` in the words of Go's
client, which users know from Ollama. Knows nothing of registries.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from yarl import URL

from server.errors import Forbidden, UpstreamError
from server.store.registry.hosts import CheckedResolver, Hosts
from server.store.registry.settings import Settings
from server.store.registry.urls import parse_url

READ_BUFFER = 1 << 20
MAX_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
Body = Callable[[], Any]
"""Makes the body anew for every attempt: bytes or an async iterator of bytes."""


class NetworkError(UpstreamError):
    """The connection failed or broke. Worth another try; ``stalled``: nothing came for the time allowed."""

    status = 500

    def __init__(self, message: str, *, stalled: bool = False, refused: bool = False) -> None:
        super().__init__(message)
        self.stalled = stalled
        self.refused = refused


class Transport:
    """Opened by its first request, ended by ``close``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.hosts = Hosts((*settings.registries, *(URL(url).authority for url in settings.mirrors.values())))
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        insecure: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One exchange. ``insecure`` allows plain http. NetworkError also for what breaks inside the block."""
        self.check(url, insecure=insecure)
        proxy = self._proxy(url)
        if proxy is None:
            self.hosts.require_literal(url)
        with network_errors(method, url):
            async with self._opened().request(
                method,
                url,
                headers=dict(headers or {}),
                data=body() if body else None,
                proxy=proxy,
                allow_redirects=False,
            ) as response:
                yield response

    def check(self, url: URL, *, insecure: bool) -> None:
        """Forbidden for other schemes than https (and http where asked for), and for passwords inside URLs."""
        if url.scheme not in ("https", "http") or not url.raw_host:
            raise Forbidden(f'"{url.scheme}" is no scheme that models are fetched by')
        if url.scheme == "http" and not insecure:
            raise Forbidden(f"{url.host} wants plain http; allow it with insecure (`--insecure`) if you trust the way")
        if url.user is not None or url.password is not None:
            raise Forbidden("a URL of a registry carries a password")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # the sockets close in the loop's next turn

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            settings = self.settings
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=CheckedResolver(self.hosts), use_dns_cache=False, limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=settings.connect, sock_connect=settings.connect, sock_read=settings.stall
                ),
                headers={"User-Agent": settings.agent, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=READ_BUFFER,
            )
        return self._session

    def _proxy(self, url: URL) -> str | None:
        host = (url.host or "").lower()
        for entry in self.settings.no_proxy:
            bare = entry.lower().lstrip("*").lstrip(".")
            if entry == "*" or host == bare or host.endswith(f".{bare}") or f"{host}:{url.port}" == bare:
                return None
        proxy = self.settings.proxies.get(url.scheme) or None
        if proxy and not proxy.lower().startswith(("http://", "https://")):
            raise Forbidden(f"{url.scheme.upper()}_PROXY is no http proxy; only those can be used here")
        return proxy


@contextmanager
def network_errors(method: str, url: URL) -> Iterator[None]:
    """aiohttp's exceptions → NetworkError."""
    what = f'{method.capitalize()} "{url.with_query(None)}"'
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise NetworkError(f"{what}: dial tcp: i/o timeout", refused=True) from error
    except TimeoutError as error:
        raise NetworkError(f"{what}: stalled: no data came", stalled=True) from error
    except (aiohttp.ClientError, ssl.SSLError, ConnectionError) as error:
        refused = isinstance(error, aiohttp.ClientConnectorError)
        raise NetworkError(f"{what}: {_words(error)}", refused=refused) from error


def _words(error: BaseException) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return f"tls: {_reason(error)}"
        case aiohttp.ClientConnectorDNSError():
            return f"dial tcp: lookup {error.host}: no such host"
        case aiohttp.ClientConnectorError():
            reason = os.strerror(error.os_error.errno).lower() if error.os_error.errno else "connection failed"
            return f"dial tcp {error.host}:{error.port}: connect: {reason}"
        case aiohttp.ClientPayloadError():
            return "unexpected EOF"
        case aiohttp.ServerDisconnectedError():
            return "EOF"
        case aiohttp.ClientResponseError():
            return "malformed HTTP response"
        case _:
            return "connection reset by peer"


def _reason(error: BaseException) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    return str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "the handshake failed")


async def read_bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole of a small answer. UpstreamError past ``limit`` bytes."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            raise UpstreamError(f"the answer is over {limit} bytes", status=500)
    return b"".join(parts)


def redirect_target(response: aiohttp.ClientResponse, url: URL) -> URL:
    """Where a redirect leads. UpstreamError where it does not say."""
    location = response.headers.get("Location", "")
    if not location:
        raise UpstreamError("http: no Location header in response", status=500)
    return parse_url(location, url, "the target of a redirect")
