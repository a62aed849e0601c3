"""Which web pages may talk to this server, and under which host names it answers: Ollama's rules.

``Origin`` is checked on every route and method; an unknown one is 403 with an empty body. ``Host`` is checked
only while the server is bound to loopback (a name that a page made point at 127.0.0.1 must not get in).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from aiohttp import hdrs, web

LOCAL_PAGES = ("localhost", "127.0.0.1", "0.0.0.0")
APP_PAGES = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")
ALLOW_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
STAINLESS = (
    "Arch Async Custom-Poll-Interval Helper-Method Lang Os Package-Version Poll-Helper Retry-Count Runtime "
    "Runtime-Version Timeout"
)
ALLOW_HEADERS = ",".join(
    ["Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With", "Openai-Beta"]
    + [f"X-Stainless-{name}" for name in STAINLESS.split()]
)
LOCAL_NAMES = (".localhost", ".local", ".internal")


def default_origins() -> list[str]:
    pages = [f"{scheme}://{host}{port}" for host in LOCAL_PAGES for scheme in ("http", "https") for port in ("", ":*")]
    return [*pages, *APP_PAGES]


class Origins:
    """``check_host``: whether the server is bound to loopback."""

    def __init__(self, extra: Iterable[str], *, check_host: bool) -> None:
        patterns = [*extra, *default_origins()]
        self._all = "*" in patterns
        self._pattern = re.compile("|".join(map(_pattern, patterns)))
        self._check_host = check_host
        self._hostname = socket.gethostname().lower()

    def refuse(self, request: web.Request) -> web.Response | None:
        """403, or the whole answer to a preflight, or None: go on."""
        preflight = request.method == hdrs.METH_OPTIONS
        if self._crosses(request):
            if not self._allows(request.headers[hdrs.ORIGIN]):
                return _answer(request, 403)
            if preflight:
                return _answer(request, 204)
        if not self._check_host:
            return None
        host = _without_port(request.headers.get(hdrs.HOST, "")).lower()
        if self._is_own_address(host):
            return None
        if not self._is_own_name(host):
            return web.Response(status=403, body=b"")
        return _answer(request, 204) if preflight else None

    def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """The headers with which a browser lets its page read the answer."""
        if not self._crosses(request) or not self._allows(request.headers[hdrs.ORIGIN]):
            return
        origin = "*" if self._all else request.headers[hdrs.ORIGIN]
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        if not self._all:
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if request.method == hdrs.METH_OPTIONS:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = ALLOW_METHODS
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = ALLOW_HEADERS
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "43200"

    def _crosses(self, request: web.Request) -> bool:
        """Whether a page of another origin asks; a page served under our own Host is at home."""
        origin = request.headers.get(hdrs.ORIGIN, "")
        host = request.headers.get(hdrs.HOST, "")
        return bool(origin) and origin not in (f"http://{host}", f"https://{host}")

    def _allows(self, origin: str) -> bool:
        return self._all or self._pattern.fullmatch(origin.lower()) is not None

    def _is_own_address(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or address.is_unspecified or _is_private(address) or _is_ours(address)

    def _is_own_name(self, host: str) -> bool:
        return host in ("", "localhost", self._hostname) or host.endswith(LOCAL_NAMES)


def _pattern(origin: str) -> str:
    """``*`` stands for anything, as a port for any port."""
    host, any_port = re.subn(r":\*$", "", origin.lower())
    return re.escape(host).replace(r"\*", ".*") + (r":\d+" if any_port else "")


PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address.version == network.version and address in network for network in PRIVATE)


def _is_ours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether one of this machine's interfaces has it: then, and only then, a socket can be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def _answer(request: web.Request, status: int) -> web.Response:
    """An empty answer; for OPTIONS with the path's methods, as the router says them."""
    headers = {}
    error = request.match_info.http_exception
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods, key=_order))
    return web.Response(status=status, headers=headers, body=None if status == 204 else b"")


def _order(method: str) -> int:
    return ("HEAD", "GET", "POST", "PUT", "PATCH", "DELETE").index(method)


ORIGINS = web.AppKey("origins", Origins)
