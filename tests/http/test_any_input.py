"""Whatever JSON or bytes come in: an answer of the documented shape, never an internal error."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from server.api import routes
from server.app import build_app
from server.config import Config
from server.inference import House
from server.store.library import Library

NANO = Path(__file__).parents[1] / "golden" / "models" / "nano.gguf"
TEXTS = [
    "nano",
    "",
    "nope",
    "a/../b",
    "x\0y",
    "\ud83d\ude00",
    "sha256:" + "0" * 64,
    "{{ .X",
    "http://h/m:t",
    "/etc/passwd",
    "5m",
]
NUMBERS = [0, 1, -1, 3.5, 2**31, 2**53 + 1, -(2**63), 10**30, 1e308, True, False, None]
MAY_BE_500 = ("option ", "invalid format: ", "template", "json: ", "unsupported quantization", "this server does not p")


def any_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(6 if depth < 3 else 2)
    if kind < 2:
        return rng.choice(TEXTS if kind else NUMBERS)
    if kind < 4:
        return [any_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    keys = ["role", "content", "function", "name", "type", "properties", "model", *TEXTS]
    return {rng.choice(keys): any_value(rng, depth + 1) for _ in range(rng.randrange(4))}


@pytest.fixture
async def client(aiohttp_client: Any, manager: Any, tmp_path: Path) -> Any:
    library = Library(tmp_path)
    client = await aiohttp_client(build_app(Config(), House(library, manager)))
    digest = str(library.blobs.add_file(NANO))
    body = json.dumps({"model": "nano", "files": {"nano.gguf": digest}, "stream": False})
    assert (await client.post("/api/create", data=body)).status == 200
    return client


async def test_any_json(client: Any, caplog: Any) -> None:
    rng = random.Random(1)
    for route in routes.ROUTES:
        if route.body is None:
            continue
        for _ in range(60):
            body = {name: any_value(rng) for name in rng.choices(sorted(route.body.fields), k=rng.randrange(4))}
            if "model" in route.body.fields and rng.random() < 0.7:
                body["model"] = "nano"
            await ask(client, route, json.dumps(body).encode())
    assert "internal error" not in caplog.text


async def test_any_bytes(client: Any, caplog: Any) -> None:
    rng = random.Random(2)
    seed = b'{"model":"nano","messages":[{"role":"user","content":"\\u00e9x"}],"prompt":"x","input":["a"]}'
    for route in routes.ROUTES:
        if route.body is None:
            continue
        for _ in range(40):
            body = bytearray(seed)
            for _ in range(rng.randrange(1, 4)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            await ask(client, route, bytes(body[: rng.randrange(1, len(body) + 1)]))
    assert "internal error" not in caplog.text


async def ask(client: Any, route: Any, body: bytes) -> None:
    async with client.request(route.methods.split()[0], route.path, data=body) as answer:
        text = await answer.text()
        if answer.status < 400:
            return
        error = json.loads(text)["error"]
        message = error["message"] if isinstance(error, dict) else error
        assert answer.status < 500 or message.startswith(MAY_BE_500), (route.path, body, text)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("digest", [
    "sha256:zz", "sha256:../x", f"sha256:{'A' * 64}", f"sha256:{'a' * 63}", f"sha256:{'a' * 65}", f"sha512:{'a' * 64}",
    "%2e%2e%2fx", f"sha256:{'١' * 64}", "..", "a%00b",
])  # fmt: skip
async def test_bad_digests(client: Any, digest: str, tmp_path: Path) -> None:
    before = files(tmp_path)
    for method in ("HEAD", "POST"):
        answer = await client.request(method, f"/api/blobs/{digest}", data=b"x")
        assert answer.status in (400, 404)
    assert files(tmp_path) == before


async def test_a_blob_of_other_content_is_refused(client: Any) -> None:
    answer = await client.post(f"/api/blobs/sha256:{'0' * 64}", data=b"abc")
    assert answer.status == 400
    assert (await answer.json())["error"].startswith(f'digest mismatch, expected "sha256:{"0" * 64}", got "sha256:ba78')
    assert (await client.head(f"/api/blobs/sha256:{'0' * 64}")).status == 404
