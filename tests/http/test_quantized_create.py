"""The fields of create that say how to quantize, through the whole server: upload, create, show, answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from server.app import build_app
from server.config import Config

ROOT = Path(__file__).parents[2]
NANO = "nano.gguf", (ROOT / "tests/golden/models/nano.gguf").read_bytes()
WORDS = "architecture.md", (ROOT / "docs/architecture.md").read_bytes()


@pytest.fixture
async def server(aiohttp_client: Any, tmp_path: Path) -> Any:
    config = Config.load({}, {"models": tmp_path / "models", "data_dir": tmp_path / "data", "guide": False})
    return await aiohttp_client(build_app(config))


async def upload(client: Any, name: str, data: bytes) -> dict[str, str]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (await client.post(f"/api/blobs/{digest}", data=data)).status == 201
    return {name: digest}


async def test_calibrated_quantized_shown_and_answering(server: Any) -> None:
    body = {
        "model": "q",
        "files": await upload(server, *NANO),
        "calibration": await upload(server, *WORDS),
        "quantize": "iq3_xxs",
        "tensor_types": [r"blk\.0\.ffn_down\.weight=Q8_0"],
        "keep_imatrix": True,
    }
    events = [json.loads(line) for line in (await (await server.post("/api/create", json=body)).text()).splitlines()]
    statuses = [event.get("status") for event in events]
    assert statuses[-1] == "success", events[-1]
    assert "computing the importance matrix" in statuses
    assert any(str(status).startswith("warning: ") for status in statuses)
    shown = await (await server.post("/api/show", json={"model": "q"})).json()
    assert shown["details"]["quantization_level"] == "IQ3_XXS"
    assert shown["model_info"]["quantize.imatrix.dataset"] == "architecture.md"
    assert {t["name"]: t["type"] for t in shown["tensors"]}["blk.0.ffn_down.weight"] == "Q8_0"
    ask = {"model": "q", "prompt": "a", "stream": False, "options": {"num_predict": 4}}
    answer = await server.post("/api/generate", json=ask)
    assert (await answer.json())["done"] is True


async def test_wrong_types_and_contradictions(server: Any) -> None:
    for fields, text in (
        ({"tensor_types": "x=Q8_0"}, "cannot unmarshal string into Go struct field"),
        ({"calibrate_self": "yes"}, "cannot unmarshal string into Go struct field"),
        ({"calibrate_self": True}, "is for a quantized type"),
    ):
        answer = await server.post("/api/create", json={"model": "q", "from": "nano", **fields})
        assert answer.status == 400
        assert text in (await answer.json())["error"]
