"""The real rooms as the composition root builds them from settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.app import build_app, build_house, gauges
from server.config import Config, ConfigError
from server.errors import StoreError
from server.manager.manager import ModelManager


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Config]:
    def make(**environ: str) -> Config:
        given = {"OLLAMA_MODELS": str(tmp_path / "models"), "LLAMADA_DATA_DIR": str(tmp_path / "data"), **environ}
        return Config.load(given)

    return make


def test_what_the_environment_says_reaches_the_rooms(made: Any) -> None:
    house = build_house(
        made(OLLAMA_KEEP_ALIVE="-1", OLLAMA_MAX_LOADED_MODELS="2", OLLAMA_NUM_PARALLEL="3", OLLAMA_MAX_QUEUE="7",
             OLLAMA_KV_CACHE_TYPE="Q8_0", OLLAMA_FLASH_ATTENTION="1", OLLAMA_CONTEXT_LENGTH="2048",
             OLLAMA_SCHED_SPREAD="1", OLLAMA_GPU_OVERHEAD="5", LLAMADA_MAX_CTX="9000", LLAMADA_REQUEST_TIMEOUT="60")
    )  # fmt: skip
    assert isinstance(house.manager, ModelManager)
    policy = house.manager.policy
    assert (policy.keep_alive, policy.max_loaded, policy.max_queue, policy.context_length) == (-1, 2, 7, 2048)
    assert (policy.spread, policy.gpu_overhead, policy.max_ctx) == (True, 5, 9000)
    assert house.defaults == {"num_parallel": 3, "kv_cache_type": "q8_0", "flash_attention": True}
    assert (house.max_ctx, house.request_timeout) == (9000, 60.0)


async def test_a_fresh_server_has_the_built_in_model_and_a_deleted_one_stays_deleted(
    aiohttp_client: Any, made: Any
) -> None:
    client = await aiohttp_client(build_app(made()))
    names = [model["name"] for model in (await (await client.get("/api/tags")).json())["models"]]
    assert sorted(names) == ["guide:latest", "guide:think"]
    listed = (await (await client.get("/v1/models")).json())["data"]
    assert all(model["context_length"] > 0 and "completion" in model["capabilities"] for model in listed)
    shown = await (await client.post("/api/show", data=b'{"model":"guide"}')).json()
    assert shown["model_info"]["general.architecture"] == "llama"
    assert (await client.delete("/api/delete", data=b'{"model":"guide"}')).status == 200
    await client.close()
    client = await aiohttp_client(build_app(made()))
    names = [model["name"] for model in (await (await client.get("/api/tags")).json())["models"]]
    assert names == ["guide:think"]


@pytest.mark.parametrize(("name", "value"), [("OLLAMA_KV_CACHE_TYPE", "q3_9"), ("OLLAMA_NUM_PARALLEL", "9999")])
def test_settings_with_which_no_model_would_load_stop_the_start(made: Any, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        build_house(made(**{name: value}))


async def test_a_store_that_takes_no_built_in_model_is_served(
    aiohttp_client: Any, made: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("storing a blob: read-only file system")

    monkeypatch.setattr("server.store.blobs.Blobs.add_file", refuse)
    client = await aiohttp_client(build_app(made()))
    assert (await client.get("/api/tags")).status == 200
    assert "the built-in model cannot be installed: storing a blob: read-only file system" in caplog.text


async def test_without_the_guide_nothing_is_there(aiohttp_client: Any, made: Any) -> None:
    client = await aiohttp_client(build_app(made(LLAMADA_GUIDE="0")))
    assert await (await client.get("/api/tags")).json() == {"models": []}
    answer = await client.get("/v1/models")
    assert (await answer.json())["data"] is None


async def test_a_loaded_model_is_listed_measured_and_answers_the_ping(aiohttp_client: Any, made: Any) -> None:
    client = await aiohttp_client(build_app(made()))
    body = {"model": "guide", "messages": [{"role": "user", "content": "hi"}], "stream": False,
            "options": {"num_predict": 4}}  # fmt: skip
    answer = await client.post("/api/chat", data=json.dumps(body))
    assert answer.status == 200, await answer.text()
    (entry,) = (await (await client.get("/api/ps")).json())["models"]
    assert (entry["name"], entry["running"]) == ("guide:latest", 0)
    assert (await client.get("/readyz")).status == 200
    text = await (await client.get("/metrics")).text()
    assert 'llamada_slots{model_name="guide:latest"}' in text
    assert 'llamada_num_requests_running{model_name="guide:latest"} 0.0' in text


def test_gauges_of_an_empty_house() -> None:
    assert all(values == {} for _, _, values in gauges([]))
