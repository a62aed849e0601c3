"""Every golden request sent, in order, to the whole server with real workers; the answers compared field by field.

What varies from run to run in real Ollama too (times, ids, manifest digests, sizes) is compared by its kind only.
"""

from __future__ import annotations

import array
import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from server.app import build_app
from server.config import Config

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDS = [json.loads(line) for line in (GOLDEN / "ollama-fb30760.jsonl").read_text().splitlines()]
MADE_HERE = {"create error: bad quant", "create error nonstream: bad quant"}  # see docs/differences.md
RECORDS = [record for record in RECORDS if record["name"] not in MADE_HERE]
NAMES = [record["name"] for record in RECORDS]

ON_PURPOSE = {  # see docs/differences.md
    "generate: num_predict 0",  # Ollama stops after thirty equal tokens, and never says done
    "generate: logprobs",  # a token that is half a character has its bytes here, and no text there
    "v1: chat logprobs",
    "v1: chat json",  # special tokens are no text inside a JSON string here
}
RETOKENIZED = {"generate: suffix", "generate: format schema"}  # `context` is what was computed, not its text anew
VARYING = ("created_at", "modified_at", "expires_at", "digest", "size", "id", "created", "version", "request_id")
OURS = {"state", "slots", "running", "queued", "tokens_per_second", "llamada"}
HEADERS = (
    "content-type", "allow", "access-control-allow-origin", "access-control-allow-methods",
    "access-control-allow-headers",
)  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return asyncio.run(replay(tmp_path_factory.mktemp("golden")))


async def replay(folder: Path) -> dict[str, Any]:
    config = Config.load({}, {"models": folder / "models", "data_dir": folder / "data", "guide": False})
    server = TestServer(build_app(config))
    await server.start_server()
    found: dict[str, Any] = {"root": str(folder / "models")}
    try:
        async with aiohttp.ClientSession(server.make_url("/")) as session:
            await session.post(f"/api/blobs/sha256:{'0' * 64}", data=b"abc")  # kept under its true digest
            for record in RECORDS:
                found[record["name"]] = await ask(session, record["request"])
    finally:
        await server.close()
    return found


async def ask(session: aiohttp.ClientSession, request: dict[str, Any]) -> dict[str, Any]:
    body = request["body"] or {}
    data = None
    if "file" in body:
        data = (GOLDEN / "models" / body["file"]).read_bytes()
    elif body:
        data = body["raw"].encode() if "raw" in body else json.dumps(body["json"]).encode()
    async with session.request(request["method"], request["path"], data=data, headers=request["headers"]) as answer:
        return {"status": answer.status, "headers": answer.headers, "body": await answer.text()}


def lines_of(text: str) -> list[Any]:
    """The objects of an answer: one, NDJSON or server-sent events; text that is none of them as it is."""
    parts = text.split("\n\n") if text.startswith("data: ") else text.split("\n")
    parts = [part.removeprefix("data: ") for part in parts if part]
    return [json.loads(part) if part.startswith("{") else part for part in parts]


def plain(value: Any, root: str) -> Any:
    """Without what varies: its type stands for it. Base64 vectors become numbers."""
    if isinstance(value, dict):
        if isinstance(value.get("embedding"), str):
            value["embedding"] = list(array.array("f", base64.b64decode(value["embedding"])))
        return {
            key: type(item).__name__ if key in VARYING or key.endswith("_duration") else plain(item, root)
            for key, item in value.items()
            if key not in OURS
        }
    if isinstance(value, list):
        return [plain(item, root) for item in value]
    return value.replace(root, "{MODELS}") if isinstance(value, str) else value


def joined(lines: list[Any]) -> list[Any]:
    """A stream with its pieces put together: how many tokens share a line is nobody's business."""
    text, rest = "", []
    for line in lines:
        if isinstance(line, dict) and line.get("done") is False and "_debug_info" not in line:
            text += line.get("response", "") + line.get("message", {}).get("content", "")
        elif isinstance(line, dict) and line.get("object") == "chat.completion.chunk" and line["choices"]:
            text += line["choices"][0]["delta"].pop("content", "")
            line["choices"][0]["delta"].pop("role", None)
            if line["choices"][0]["finish_reason"]:
                rest.append(line)
        elif isinstance(line, dict) and line.get("object") == "text_completion" and line["choices"]:
            text += line["choices"][0]["text"]
            if line["choices"][0]["finish_reason"]:
                rest.append(line)
        else:
            rest.append(line)
    return [text, *rest]


def same(mine: Any, real: Any, where: str = "") -> None:
    if isinstance(real, dict):
        assert isinstance(mine, dict), where
        assert list(mine) == list(real), where
        for key in real:
            same(mine[key], real[key], f"{where}.{key}")
    elif isinstance(real, list):
        assert isinstance(mine, list), where
        assert len(mine) == len(real), where
        for index, item in enumerate(real):
            same(mine[index], item, f"{where}[{index}]")
    elif isinstance(real, float):
        assert mine == pytest.approx(real, rel=2e-3, abs=2e-4), where
    else:
        assert mine == real, where


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ON_PURPOSE])
def test_golden(answers: dict[str, Any], name: str) -> None:
    real, mine = next(r["answer"] for r in RECORDS if r["name"] == name), answers[name]
    assert mine["status"] == real["status"], mine["body"]
    for header in HEADERS:
        if header in real["headers"]:
            assert mine["headers"].get(header) == real["headers"][header]
    my_lines = joined(plain(lines_of(mine["body"]), answers["root"]))
    real_lines = joined(plain(lines_of(real["body"]), answers["root"]))
    if name in RETOKENIZED:
        my_lines[-1]["context"] = real_lines[-1]["context"] = []
    if name == "ps forever":  # which of two models with the same weights is listed depends on who loaded last
        my_lines[-1]["models"], real_lines[-1]["models"] = my_lines[-1]["models"][:2], real_lines[-1]["models"][:2]
    same(my_lines, real_lines)


def test_streams_have_no_length_and_whole_answers_have(answers: dict[str, Any]) -> None:
    for record in RECORDS:
        mine = answers[record["name"]]["headers"]
        if record["answer"]["headers"].get("content-type") == "application/x-ndjson":
            assert "Content-Length" not in mine
