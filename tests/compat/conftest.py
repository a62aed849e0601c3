"""One real server for the clients of a module, with the built-in model and a parrot (see ``parrot.py``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest
from parrot import write_parrot

from server.cli.private import private_server


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("compat")
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OLLAMA_MODELS", str(folder / "models"))
            patch.setenv("LLAMADA_DATA_DIR", str(folder / "data"))
            address = stack.enter_context(private_server())
        add_parrot(address.url, folder / "parrot.gguf")
        yield address.url


def add_parrot(url: str, path: Path) -> None:
    write_parrot(path)
    with contextlib.closing(ollama.Client(url)) as client:
        client.create("parrot", files={path.name: client.create_blob(path)})
