"""A server of canned answers that remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

Answer = dict[str, Any] | list[dict[str, Any]] | tuple[int, dict[str, Any]]


@dataclass
class FakeServer:
    """``answers``: "METHOD /path" → an object, a list (a stream), (status, object), or a function of the body.
    A path may end with `/*`."""

    url: str = ""
    answers: dict[str, Answer | Callable[[Any], Answer]] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)

    def bodies(self, route: str) -> list[Any]:
        return [body for asked, body in self.requests if asked == route]


class Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body: Any = json.loads(data) if data else None
        except ValueError:
            body = data
        route = f"{self.command} {self.path}"
        self.fake.requests.append((route, body))
        missing = (404, {"error": f"{route} is not in the fake"})
        anywhere = self.fake.answers.get(f"{route.rpartition('/')[0]}/*", missing)
        answer = self.fake.answers.get(route, anywhere)
        if callable(answer):
            answer = answer(body)
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        lines = value if isinstance(value, list) else [value]
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_DELETE = do_HEAD = respond  # noqa: N815 - names that http.server calls

    def log_message(self, *_: object) -> None: ...
