"""What a client sends cannot shape the log: no second line, no escape codes, no traceback because it left."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import pytest

from server.types import Chunk


@pytest.mark.parametrize("path", ["/api/blobs/sha256:%0aERROR%20forged", "/api/show%0d%0a2026", "/x%1b%5b31m", "/%00"])
async def test_a_path_is_one_line(client: Any, caplog: Any, path: str) -> None:
    caplog.set_level(logging.INFO)
    await client.post(path, data=b"{}")
    lines = [record.getMessage() for record in caplog.records if record.name == "server.requests"]
    assert len(lines) == 1
    assert lines[0].isprintable()


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions"])
async def test_a_client_that_leaves_is_no_error(client: Any, runner: Any, caplog: Any, path: str) -> None:
    """A write finds the connection broken before its loss is noticed otherwise."""
    runner.chunks = (Chunk("x"), ConnectionResetError("Cannot write to closing transport"))
    body = {"model": "nano", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "stream": True}
    with pytest.raises(aiohttp.ClientError):
        await (await client.post(path, json=body)).read()
    assert runner.closed == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
