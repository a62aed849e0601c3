from __future__ import annotations

from pathlib import Path

import pytest
import tiny_gguf as tiny
from gguf import GGUFReader


@pytest.fixture(scope="session")
def vocabulary() -> int:
    return len(GGUFReader(tiny.NANO).fields["tokenizer.ggml.tokens"].data)


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama in F32 whose rows every type can hold."""
    return tiny.write_model(tmp_path_factory.mktemp("dense") / "dense.gguf", tiny.Shape())


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with four experts, of which two are asked."""
    return tiny.write_model(tmp_path_factory.mktemp("mixture") / "mixture.gguf", tiny.Shape(experts=4))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text((Path(__file__).parents[3] / "docs/architecture.md").read_text("utf-8"), "utf-8")
    return path
