"""What holds on every route: methods, slashes, Host, Origin, limits, ids, and what a stranger may not see."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from server.api import admission, bodies
from server.app import build_app
from server.config import Address, Config

EVIL = "http://evil.example"


@pytest.mark.parametrize(
    ("method", "path", "status", "text", "allow"),
    [
        ("GET", "/nope", 404, "404 page not found", None),
        ("GET", "/health", 404, "404 page not found", None),
        ("GET", "/api/generate", 405, "405 method not allowed", "POST"),
        ("POST", "/api/tags", 405, "405 method not allowed", "HEAD, GET"),
        ("POST", "/", 405, "405 method not allowed", "HEAD, GET"),
        ("GET", f"/api/blobs/sha256:{'a' * 64}", 405, "405 method not allowed", "HEAD, POST"),
    ],
)
async def test_unknown_paths_and_methods(
    client: Any, method: str, path: str, status: int, text: str, allow: str | None
) -> None:
    answer = await client.request(method, path)
    assert (answer.status, await answer.text(), answer.headers.get("Allow")) == (status, text, allow)
    assert answer.headers["Content-Type"] == "text/plain"


GO_LINK = '<a href="/api/tags?a=1&amp;b=2">Moved Permanently</a>.\n\n'


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [("GET", "/api/tags", 301, GO_LINK), ("HEAD", "/api/tags", 307, ""), ("POST", "/api/generate", 307, "")],
)
async def test_a_trailing_slash_redirects(client: Any, method: str, path: str, status: int, body: str) -> None:
    answer = await client.request(method, f"{path}/?a=1&b=2", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (status, f"{path}?a=1&b=2")
    assert await answer.text() == body
    assert answer.headers.get("Content-Type") == (None if method == "POST" else "text/html; charset=utf-8")
    answer = await client.get("/nope/", allow_redirects=False)
    assert answer.status == 404


async def test_alive(client: Any) -> None:
    answer = await client.get("/")
    assert (await answer.text(), answer.headers["Content-Type"]) == ("Ollama is running", "text/plain; charset=utf-8")
    assert (await client.head("/")).status == 200
    version = await (await client.get("/api/version")).json()
    assert all(part.isdigit() for part in version["version"].split("."))
    assert tuple(map(int, version["version"].split("."))) >= (0, 6, 4)
    assert (await client.head("/api/version")).status == 200


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost", True),
        ("http://localhost:3000", True),
        ("https://127.0.0.1:1", True),
        ("app://anything", True),
        ("vscode-webview://x", True),
        ("file://", True),
        (EVIL, False),
        ("null", False),
        ("chrome-extension://x", False),
        ("http://localhost.evil.example", False),
        ("http://localhost:1.evil.example", False),
        ("http://localhost:1@evil.example", False),
        ("http://127.0.0.1.evil.example", False),
    ],
)
async def test_origins(client: Any, origin: str, allowed: bool) -> None:
    for method, path in (("GET", "/api/version"), ("GET", "/nope"), ("POST", "/api/chat")):
        answer = await client.request(method, path, headers={"Origin": origin})
        assert (answer.status == 403) is not allowed
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        if not allowed:
            assert await answer.read() == b""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = await client.options("/api/chat", headers=asked)
    assert answer.status == (204 if allowed else 403)
    assert answer.headers["Allow"] == "POST"
    assert answer.headers.get("Access-Control-Max-Age") == ("43200" if allowed else None)


async def test_a_streamed_answer_has_the_cors_headers_too(client: Any) -> None:
    body = json.dumps({"model": "nano", "prompt": "x"})
    answer = await client.post("/api/generate", data=body, headers={"Origin": "http://localhost:1"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:1"
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:11434", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:1", 200),
        ("0.0.0.0", 200),
        ("192.168.1.5", 200),
        ("foo.localhost", 200),
        ("box.local", 200),
        ("host.docker.internal", 200),
        ("evil.example", 403),
        ("8.8.8.8", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.0.0.1@evil.example", 403),
    ],
)
async def test_hosts_on_loopback(client: Any, host: str, status: int) -> None:
    answer = await client.get("/api/version", headers={"Host": host})
    assert answer.status == status


async def test_no_host_check_when_bound_to_all(aiohttp_client: Any, house: Any) -> None:
    everywhere = await aiohttp_client(build_app(Config(host=Address(host="0.0.0.0")), house))
    assert (await everywhere.get("/api/version", headers={"Host": "ollama:11434"})).status == 200


async def test_options_without_origin(client: Any) -> None:
    assert (await client.options("/api/chat", headers={"Host": "localhost"})).status == 204
    assert (await client.options("/api/chat", headers={"Host": "127.0.0.1"})).status == 405


async def test_extra_origins(aiohttp_client: Any, house: Any) -> None:
    some = await aiohttp_client(build_app(Config(origins=("http://*.example",)), house))
    assert (await some.get("/", headers={"Origin": EVIL})).headers["Access-Control-Allow-Origin"] == EVIL
    every = await aiohttp_client(build_app(Config(origins=("*",)), house))
    assert (await every.get("/", headers={"Origin": EVIL})).headers["Access-Control-Allow-Origin"] == "*"


async def test_bodies_that_are_too_large(client: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(bodies, "MAX_JSON", 1000)
    monkeypatch.setattr(bodies, "MAX_JSON_WITH_IMAGES", 3000)
    for path, size in (("/api/show", 1001), ("/api/chat", 1001), ("/api/chat", 3001)):
        answer = await client.post(path, data=json.dumps({"model": "x" * size}))
        assert answer.status == 413
        assert "larger than" in (await answer.json())["error"]
    picture = "aaaa" * 500
    link = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    for text, status in (("x", 200), ("x" * 1001, 413)):
        asks = [
            ("/api/generate", {"prompt": text, "images": [picture]}),
            ("/api/chat", {"messages": [{"role": "user", "content": text, "images": [picture]}]}),
            (
                "/v1/chat/completions",
                {"messages": [{"role": "user", "content": [{"type": "text", "text": text}, link]}]},
            ),
        ]
        for path, body in asks:
            assert (await client.post(path, data=json.dumps({"model": "nano", **body}))).status == status, path

    async def chunked() -> Any:
        for _ in range(30):
            yield b"x" * 100

    assert (await client.post("/api/show", data=chunked())).status == 413


async def test_a_body_that_does_not_come(client: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)

    async def slow() -> Any:
        yield b"{"
        await asyncio.sleep(5)

    answer = await client.post("/api/show", data=slow())
    assert answer.status == 408


async def test_encodings(client: Any) -> None:
    answer = await client.post("/api/show", data=b"{}", headers={"Content-Encoding": "secret"})
    assert answer.status == 415


async def test_any_content_type_will_do(client: Any) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        body = json.dumps({"model": "nano"})
        answer = await client.post("/api/generate", data=body, headers={"Content-Type": kind})
        assert answer.status == 200


async def test_the_log_says_what_was_done_and_not_what_was_said(client: Any, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    body = {"model": "nano", "messages": [{"role": "user", "content": "canary-prompt"}], "options": {"x\ny": 1}}
    answer = await client.post("/api/chat", data=json.dumps(body), headers={"Authorization": "Bearer canary-key"})
    await answer.read()
    assert "model=nano prompt=7 cached=0 output=2" in caplog.text
    assert answer.headers["X-Request-Id"] in caplog.text
    assert "canary" not in caplog.text
    answer = await client.post("/api/chat", data=json.dumps({"model": "a\nb", "messages": []}))
    assert "model=a\\nb" in caplog.text


async def test_metrics(client: Any) -> None:
    await (await client.post("/api/generate", data=json.dumps({"model": "nano", "prompt": "x"}))).read()
    await client.get("/nope")
    text = await (await client.get("/metrics")).text()
    assert 'llamada_prompt_tokens_total{model_name="nano"} 7.0' in text
    assert 'llamada_generation_tokens_total{model_name="nano"} 2.0' in text
    assert 'llamada_request_success_total{finished_reason="stop",model_name="nano"} 1.0' in text
    assert 'llamada_time_to_first_token_seconds_count{model_name="nano"} 1.0' in text
    assert 'llamada_http_requests_total{status="404"} 1.0' in text


async def test_readiness(client: Any, runner: Any) -> None:
    assert (await client.get("/healthz")).status == 200
    assert (await client.get("/readyz")).status == 200
    runner.hangs = True
    answer = await client.get("/readyz")
    assert (answer.status, (await answer.json())["silent"]) == (503, ["nano:latest"])


async def test_while_draining_nothing_new_comes_in(client: Any) -> None:
    client.app[admission.KEY].draining = True
    assert (await client.get("/readyz")).status == 503
    assert (await client.get("/api/version")).status == 200
    answer = await client.post("/api/generate", data=b'{"model":"nano","prompt":"x"}')
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_openapi_names_every_route(client: Any) -> None:
    described = await (await client.get("/api/openapi.json")).json()
    routed = {(route.method.lower(), route.resource.canonical) for route in client.app.router.routes()}
    assert {(m, p) for p, methods in described["paths"].items() for m in methods} == routed
    fields = described["paths"]["/api/chat"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert fields["properties"]["messages"]["items"]["properties"]["content"] == {"type": "string"}
    page = await (await client.get("/api/docs")).text()
    assert "/api/chat" in page
    assert "http" not in page.replace("http-equiv", "").replace("https://json-schema", "")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/api/me", 503, "account unavailable"),
        ("POST", "/api/signout", 401, "you are not currently signed in"),
        ("DELETE", "/api/user/keys/x", 401, "you are not currently signed in"),
        ("POST", "/api/experimental/web_search", 403, "ollama cloud is disabled: web search is unavailable"),
    ],
)
async def test_no_account_and_no_cloud(client: Any, method: str, path: str, status: int, text: str) -> None:
    answer = await client.request(method, path)
    assert (answer.status, await answer.json()) == (status, {"error": text})
    assert (await (await client.get("/api/status")).json())["cloud"]["disabled"] is True
