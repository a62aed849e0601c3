"""The library without HTTP, with real tiny models."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import server
from server import Answer, LoadedModel, ModelInfo, ModelManager, ResourceDetector
from server.errors import InvalidRequest, ModelNotFound, Unsupported
from server.types import Message

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "tests" / "golden" / "models"


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[ModelManager]:
    async with ModelManager(models=tmp_path / "models", data_dir=tmp_path / "data", guide=False) as made:
        yield made


@pytest.fixture
async def model(manager: ModelManager) -> LoadedModel:
    return await manager.load_model(MODELS / "nano.gguf", seed=1, num_predict=5, num_ctx=256)


def test_importing_the_package_costs_nothing() -> None:
    code = "import sys, server; print(sorted(m for m in sys.modules if m.startswith('server.')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not hasattr(server, "NoSuchName")


async def test_generate_whole_and_streamed(model: LoadedModel) -> None:
    whole = await model.generate("Hello", temperature=0)
    assert isinstance(whole, Answer)
    assert whole.content
    assert str(whole) == whole.content
    assert whole.final.output_tokens == 5
    pieces = [chunk async for chunk in model.generate("Hello", stream=True, temperature=0)]
    assert "".join(piece.content for piece in pieces) == whole.content
    assert pieces[-1].final is not None


async def test_generate_from_messages(model: LoadedModel) -> None:
    first = await model.generate([{"role": "user", "content": "Hello"}], temperature=0)
    second = await model.generate([Message("user", "Hello")], temperature=0)
    assert first.content == second.content
    assert first.final.prompt_tokens == await model.count_tokens([Message("user", "Hello")])


async def test_count_tokens_of_a_text(model: LoadedModel) -> None:
    assert await model.count_tokens("") == 0
    assert 0 < await model.count_tokens("Hello, hello") <= 12


async def test_embeddings(manager: ModelManager) -> None:
    model = await manager.load_model(str(MODELS / "nano-embed.gguf"))
    one, two = await model.embeddings(["one", "two"])
    assert len(one) == len(two) == 64
    assert math.isclose(sum(x * x for x in one), 1, rel_tol=1e-4)
    assert await model.embeddings("one") == [pytest.approx(one, abs=1e-5)]
    with pytest.raises(Unsupported):
        await model.generate("text")


async def test_models_are_listed_and_unloaded(manager: ModelManager, model: LoadedModel) -> None:
    (info,) = await manager.list_available_models()
    assert isinstance(info, ModelInfo)
    assert (info.family, info.context_length, info.loaded) == ("llama", 1024, True)
    assert "completion" in info.capabilities
    assert await model.unload()
    assert not await manager.unload_model(model)
    assert not (await manager.list_available_models())[0].loaded
    assert (await model.generate("again")).content


async def test_what_cannot_be_loaded(manager: ModelManager, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        await manager.load_model("nothing")
    with pytest.raises(ModelNotFound):
        await manager.load_model(tmp_path / "gone.gguf")
    (tmp_path / "bad.gguf").write_text("no")
    with pytest.raises(InvalidRequest, match="GGUF"):
        await manager.load_model(tmp_path / "bad.gguf")
    with pytest.raises(InvalidRequest, match="unknown options: temprature"):
        await manager.load_model(MODELS / "nano.gguf", temprature=1)


async def test_mistakes_in_a_request(model: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="unknown options: max_tokens"):
        await model.generate("x", max_tokens=3)
    with pytest.raises(InvalidRequest, match="a message has a role"):
        await model.generate([{"content": "x"}])
    with pytest.raises(InvalidRequest, match="unknown settings: no_such"):
        ModelManager(no_such=1)


async def test_configurations_are_saved_and_loaded(manager: ModelManager, model: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    manager.save_config(path)
    async with ModelManager.load_config(path) as other:
        again = await other.load_model(MODELS / "nano.gguf")
        answer = await again.generate("Hello")
        assert answer.final.output_tokens == 5
        assert answer.content == (await model.generate("Hello")).content
        other.save_config(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == path.read_text()


BAD = ('{"settings": {"zzz": 1}, "models": {}}', '{"settings": {}, "models": {"a": {"zzz": 1}}}')


@pytest.mark.parametrize("text", ["", "[]", "{}", *BAD])
def test_broken_configurations(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InvalidRequest):
        ModelManager.load_config(tmp_path / "c.json")


def test_the_machine_is_detected() -> None:
    machine = ResourceDetector().detect()
    assert machine.cores >= 1
    assert machine.build in ("cpu", "cuda", "metal", "vulkan", "rocm")
    assert machine.problems == ()
