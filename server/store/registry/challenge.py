"""What a registry says with a 401: the header ``WWW-Authenticate``, parsed; and the URL at which a token is asked for.

Pure. A realm on another origin than the registry's is refused here, before anything could be sent there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from yarl import URL

from server.errors import UpstreamError
from server.store.registry.urls import parse_url

MAX_HEADER = 16 * 1024
SCHEME = re.compile(r"\s*(?:^|,)\s*(Bearer|Basic)\b", re.IGNORECASE)
PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """``scheme``: "bearer", "basic" or "" where neither is offered."""

    scheme: str = ""
    realm: str = ""
    service: str = ""
    scope: str = ""

    @classmethod
    def parse(cls, header: str) -> Challenge:
        """Bearer where both are offered."""
        text = header[:MAX_HEADER]
        starts = list(SCHEME.finditer(text))
        offered: dict[str, Challenge] = {}
        for number, start in enumerate(starts, 1):
            part = text[start.end() : starts[number].start() if number < len(starts) else len(text)]
            found = {m[1].lower(): re.sub(r"\\(.)", r"\1", m[2]) if m[2] is not None else m[3]
                     for m in PARAMETER.finditer(part)}  # fmt: skip
            scheme = start[1].lower()
            offered.setdefault(
                scheme, cls(scheme, found.get("realm", ""), found.get("service", ""), found.get("scope", ""))
            )
        return offered.get("bearer") or offered.get("basic") or cls()

    def token_url(self, registry: URL, more: list[tuple[str, str]]) -> URL:
        """Where the token is, with ``more`` in the query, sorted as Go sorts. UpstreamError for another origin."""
        if "://" not in self.realm:
            raise UpstreamError("the registry asks for a token of no usable realm", status=500)
        realm = parse_url(self.realm, registry, "the realm of the registry")
        if realm.user is not None or realm.password is not None:
            raise UpstreamError("the registry asks for a token of no usable realm", status=500)
        if realm.authority.lower() != registry.authority.lower():
            raise UpstreamError(
                f'realm host "{realm.authority}" does not match original host "{registry.authority}"', status=500
            )
        if realm.scheme != registry.scheme:
            raise UpstreamError(f'realm scheme "{realm.scheme}" does not match the registry\'s', status=500)
        query = parse_qsl(realm.raw_query_string, keep_blank_values=True)
        query += [("service", self.service)] if self.service else []
        query += [("scope", scope) for scope in self.scope.split()]
        return URL(
            f"{realm.with_query(None)}?{urlencode(sorted(query + more, key=lambda item: item[0]))}", encoded=True
        )
