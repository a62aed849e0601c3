"""Whom we may talk to: the registries that the operator lists, and no address of this machine or its network unasked.

A name is allowed by its host, an address by what it is: loopback, private, link-local, multicast and reserved ones
are reached only where the operator listed that very host. The check happens where the address is looked up, and the
connection goes to the addresses that were checked.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from server.errors import Forbidden

KNOWN = ("registry.ollama.ai", "hf.co", "huggingface.co")
ANY = "*"
# Anything a C library might take for a number: 127.1, 0x7f.1, 2130706433, 0177.0.0.1.
NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Hosts:
    """``extra``: ``host`` (any port), ``host:port``, or ``*`` for every host with a public address."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._listed = {entry.strip().lower() for entry in extra if entry.strip()}

    def require(self, url: URL) -> None:
        """Forbidden unless ``url`` is of a registry that may be asked at all."""
        host, port = _place(url)
        if host in KNOWN and port == 443:
            return
        if ANY not in self._listed and not self.listed(host, port):
            raise Forbidden(f'registry "{_spell(url)}" is not allowed; add it to LLAMADA_REGISTRIES to allow it')

    def listed(self, host: str, port: int) -> bool:
        """Named by the operator: also a private address is meant then."""
        return host in self._listed or f"{host}:{port}" in self._listed

    def require_address(self, host: str, port: int, address: str) -> None:
        """Forbidden when ``host`` turns out to be inside the network, and was not listed."""
        if not is_public(address) and not self.listed(host.lower(), port):
            raise Forbidden(
                f'"{host}" has an address inside this network; add {host}:{port} to LLAMADA_REGISTRIES to allow it'
            )

    def require_literal(self, url: URL) -> None:
        """The check for hosts that are not looked up, because they are written as an address."""
        host, port = _place(url)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if NUMERIC.fullmatch(host):
                raise Forbidden(f'"{host}" is a disguised address; write it as usual') from None
        else:
            self.require_address(host, port, host)


def is_public(text: str) -> bool:
    """Whether packets to this address leave the network. Addresses inside IPv6 wrappings count as what they are."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None:
            return False
        address = inner or address
    return address.is_global and not address.is_multicast and not address.is_reserved


def _place(url: URL) -> tuple[str, int]:
    return (url.raw_host or "").lower().rstrip("."), url.port or 0


def _spell(url: URL) -> str:
    return url.authority


class CheckedResolver(AbstractResolver):
    """Looks names up and lets through only what ``Hosts`` allows. One bad address among several refuses the host."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            self._hosts.require_address(host, port, result["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()
