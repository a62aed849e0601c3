"""What the store's tests share: golden requests, a models directory, and a disk that dies at a chosen step."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.errors import ServerError
from server.store.create import CreateRequest, create
from server.store.library import Library
from server.store.record import message_from

GOLDEN = Path(__file__).parents[2] / "golden"
# Refused by Ollama, made here: see docs/differences.md.
MADE_HERE = ("create error: bad quant", "create error nonstream: bad quant")
STEPS = ("open", "fsync", "replace", "rename", "mkdir")


class PowerCut(BaseException):
    """Not an OSError: nothing may catch it and tidy up in a way that a real power cut would not allow."""


def golden_records() -> dict[str, Any]:
    lines = (GOLDEN / "ollama-fb30760.jsonl").read_text().splitlines()
    return {record["name"]: record for record in map(json.loads, lines)}


def request_from(body: dict[str, Any]) -> CreateRequest:
    """What the door makes of a create request's JSON."""
    same = {key: body[key] for key in body if key in CreateRequest.__slots__ and key != "messages"}
    messages = tuple(map(message_from, body.get("messages", ())))
    return CreateRequest(**{"model": "", "source": body.get("from", ""), "messages": messages, **same})


class Creator:
    """Creates models synchronously: ``(status, events)`` as a client of a stream would see them."""

    def __call__(self, library: Library, **body: Any) -> tuple[int, list[dict[str, Any]]]:
        if "source" in body:
            body["from"] = body.pop("source")
        return asyncio.run(self._run(library, request_from(body)))

    async def _run(self, library: Library, request: CreateRequest) -> tuple[int, list[dict[str, Any]]]:
        events: list[dict[str, Any]] = []
        try:
            async for event in create(library, request):
                events.append(event)
        except ServerError as error:
            return error.status, [*events, {"error": error.message}]
        return 200, events


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    return golden_records()


@pytest.fixture(scope="session")
def creating() -> Creator:
    return Creator()


@pytest.fixture(scope="session")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, list[dict[str, Any]]]]]:
    """A store after all golden uploads and creates, in their order, and what each create answered."""
    root = tmp_path_factory.mktemp("replayed")
    library = Library(root)
    library.blobs.add_bytes(b"abc")  # uploaded under a wrong digest before the golden answers begin
    answers = {}
    for name, record in golden_records().items():
        body = record["request"]["body"] or {}
        if record["request"]["path"].startswith("/api/blobs/") and "file" in body:
            library.blobs.add_file(GOLDEN / "models" / body["file"])
        elif record["request"]["path"] == "/api/create" and name not in MADE_HERE:
            answers[name] = Creator()(library, **body["json"])
    return root, answers


@pytest.fixture
def library(replayed: tuple[Path, Any], tmp_path: Path) -> Library:
    """A store of its own with the golden models in it."""
    shutil.copytree(replayed[0], tmp_path / "models")
    return Library(tmp_path / "models")


@pytest.fixture
def nano() -> Path:
    return GOLDEN / "models" / "nano.gguf"


@pytest.fixture
def cut_power_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """``with cut_power_at(n) as steps:`` stops dead before the n-th fsync, rename, mkdir or open.

    ``steps`` lists what was called; its last item is "cut" if the power went.
    """

    @contextmanager
    def at(step: int) -> Iterator[list[str]]:
        seen: list[str] = []

        def wrap(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                seen.append(name)
                if len(seen) == step:
                    raise PowerCut(name)
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in STEPS:
                patch.setattr(os, name, wrap(name))
            try:
                yield seen
            except PowerCut:
                seen.append("cut")

    return at
