"""Texts as tokens and back, natively."""

from __future__ import annotations

import json
from typing import Any

import pytest


async def post(client: Any, path: str, **body: Any) -> tuple[int, Any]:
    async with client.post(path, data=json.dumps(body)) as answer:
        return answer.status, await answer.json()


async def test_there_and_back(client: Any, manager: Any) -> None:
    status, found = await post(client, "/api/tokenize", model="nano", text="añ", keep_alive="1m")
    assert (status, found) == (200, {"model": "nano", "tokens": [97, 195, 177]})
    status, back = await post(client, "/api/detokenize", model="nano", tokens=found["tokens"])
    assert (status, back) == (200, {"model": "nano", "text": "añ"})
    assert [lease[2] for lease in manager.leases] == [60.0, None]
    assert (await post(client, "/api/tokenize", model="nano"))[1]["tokens"] == []
    assert (await post(client, "/api/detokenize", model="nano"))[1]["text"] == ""


@pytest.mark.parametrize("path", ["/api/tokenize", "/api/detokenize"])
async def test_refusals(client: Any, path: str) -> None:
    assert await post(client, path) == (400, {"error": "model is required"})
    assert await post(client, path, model="nope") == (404, {"error": "model 'nope' not found"})
