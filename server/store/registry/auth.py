"""Proving to one registry who we are: tokens by signed request (Ollama) or password (OCI), Basic where that is asked.

One object per origin and exchange; its credentials are for that origin alone, and whoever sends requests asks it only
for URLs of that origin.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time

from yarl import URL

from server.errors import ServerError, UpstreamError
from server.store.registry import keys, logins
from server.store.registry.challenge import Challenge
from server.store.registry.transport import Transport, read_bounded

MAX_TOKEN = 1024 * 1024
EMPTY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
HUGGING_FACE = ("hf.co", "huggingface.co")


class AccessDenied(UpstreamError):
    """The registry does not let us. The text is the one that clients of Ollama look for."""

    status = 500

    def __init__(self) -> None:
        super().__init__("unauthorized: access denied")


class Auth:
    def __init__(self, transport: Transport, origin: URL, *, insecure: bool) -> None:
        self._transport = transport
        self._origin = origin
        self._insecure = insecure
        self._lock = asyncio.Lock()
        self._header = ""
        token = transport.settings.hf_token
        if token and origin.host in HUGGING_FACE and origin.scheme == "https":
            self._header = f"Bearer {token}"

    @property
    def header(self) -> str:
        """The ``Authorization`` to send, or nothing."""
        return self._header

    async def answer(self, challenge_text: str, used: str) -> None:
        """After a 401 to a request that carried ``used``: get better credentials, or AccessDenied."""
        async with self._lock:
            if self._header != used:  # somebody else was quicker
                return
            challenge = Challenge.parse(challenge_text)
            if challenge.scheme == "bearer":
                self._header = f"Bearer {await self._token(challenge)}"
            elif challenge.scheme == "basic" and (login := await self._login()) and used != f"Basic {login}":
                self._header = f"Basic {login}"
            else:
                raise AccessDenied

    async def _token(self, challenge: Challenge) -> str:
        """By password where one is known for this host, else by signature, else as nobody in particular."""
        login = await self._login()
        if login:
            token = await self._ask(challenge.token_url(self._origin, []), f"Basic {login}")
        else:
            now = [("ts", str(int(time.time()))), ("nonce", secrets.token_urlsafe(16))]
            url = challenge.token_url(self._origin, now)
            token = await self._ask(url, await self._signature(url))
            if token is None:
                token = await self._ask(challenge.token_url(self._origin, []), "")
        if token is None:
            raise AccessDenied
        return token

    async def _signature(self, url: URL) -> str:
        if self._transport.settings.key is None:
            return ""
        key = await asyncio.to_thread(keys.load, self._transport.settings.key)
        return key.authorization(f"GET,{url},{EMPTY}".encode())

    async def _login(self) -> str | None:
        path = self._transport.settings.logins
        return await asyncio.to_thread(logins.basic, path, self._origin.authority) if path else None

    async def _ask(self, url: URL, authorization: str) -> str | None:
        """The token, or None where these credentials do not do."""
        headers = {"Authorization": authorization} if authorization else {}
        async with self._transport.send("GET", url, headers=headers, insecure=self._insecure) as response:
            body = await read_bounded(response, MAX_TOKEN)
            if response.status in (400, 401, 403):
                return None
            if response.status != 200:
                raise ServerError(f"getting a token: the registry answered {response.status}")
        try:
            answer = json.loads(body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token or not token.isprintable() or not token.isascii():
            raise ServerError("getting a token: the registry's answer holds none")
        return token
