"""HTTP to a running server, with the standard library only: a command is up before aiohttp would be imported.

Speaks the native protocol to whatever answers at an ``Address``; knows no command. One connection per call,
so that leaving a stream (Ctrl-C) is seen by the server at once.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from server.cli.errors import APIError, CliError, ServerDown
from server.config import Address

CONNECT_TIMEOUT = 10.0
MAX_LINE = 64 * 1024 * 1024
CHUNK = 1 << 20

Object = dict[str, Any]


class Client:
    def __init__(self, address: Address) -> None:
        self.address = address

    def get(self, path: str) -> Object:
        return self._whole("GET", path, None)

    def post(self, path: str, body: Object) -> Object:
        return self._whole("POST", path, body)

    def delete(self, path: str, body: Object) -> Object:
        return self._whole("DELETE", path, body)

    def stream(self, path: str, body: Object) -> Iterator[Object]:
        """The objects of an NDJSON answer as they come. An object with `error` is raised."""
        with self._answer("POST", path, body) as response:
            while line := response.readline(MAX_LINE):
                piece = _parsed(line)
                if "error" in piece:
                    raise APIError(str(piece["error"]), 200)
                yield piece

    def has_blob(self, digest: str) -> bool:
        try:
            self._whole("HEAD", f"/api/blobs/{quote(digest, safe=':')}", None)
        except APIError as error:
            if error.status == 404:
                return False
            raise
        return True

    def upload(self, digest: str, path: Path) -> Iterator[int]:
        """Send a file as a blob; yields how many bytes went."""
        size = path.stat().st_size
        with self._connection() as connection, path.open("rb") as file:
            connection.putrequest("POST", f"{self.address.path}/api/blobs/{quote(digest, safe=':')}")
            connection.putheader("Content-Length", str(size))
            connection.endheaders()
            sent = 0
            while chunk := file.read(CHUNK):
                try:
                    connection.send(chunk)
                except (BrokenPipeError, ConnectionResetError):
                    break  # the server answered early; what it says is read below
                sent += len(chunk)
                yield sent
            _check(connection.getresponse())

    def alive(self) -> bool:
        try:
            self.get("/api/version")
        except CliError:
            return False
        return True

    def _whole(self, method: str, path: str, body: Object | None) -> Object:
        with self._answer(method, path, body) as response:
            data = response.read()
        return _parsed(data) if data.strip() else {}

    @contextmanager
    def _answer(self, method: str, path: str, body: Object | None) -> Iterator[http.client.HTTPResponse]:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogateescape")
        headers = {"Content-Type": "application/json", "Accept": "application/x-ndjson"} if data is not None else {}
        with self._connection() as connection:
            connection.request(method, self.address.path + path, data, headers)
            response = connection.getresponse()
            _check(response)
            yield response

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = self._connected()
        try:
            yield connection
        except http.client.HTTPException as error:
            raise CliError(
                f"{self.address.url} does not answer as a server should ({error or 'it hung up'})"
            ) from error
        except (ConnectionError, ssl.SSLError) as error:
            raise CliError(f"the connection to {self.address.url} was lost: {error}") from error
        finally:
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        """Connecting has a time limit; an answer has none, since a load or a long prompt takes what it takes."""
        kind = http.client.HTTPSConnection if self.address.scheme == "https" else http.client.HTTPConnection
        connection = kind(urlsplit(self.address.url).hostname or "", self.address.port, timeout=CONNECT_TIMEOUT)
        try:
            connection.connect()
        except OSError as error:
            raise ServerDown(self.address.url) from error
        connection.sock.settimeout(None)
        return connection


def _check(response: http.client.HTTPResponse) -> None:
    if response.status < 400:
        return
    body = response.read(MAX_LINE)
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", "replace").strip() or f"the server answered {response.status} {response.reason}"
    raise APIError(message, response.status)


def _parsed(data: bytes) -> Object:
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise CliError("the server sent something that is not JSON") from error
    if not isinstance(parsed, dict):
        raise CliError("the server sent something that is not a JSON object")
    return parsed
