"""The server as an asyncio library, without HTTP: load models of the store (or GGUF files), generate, count, embed.

    async with ModelManager() as manager:
        model = await manager.load_model("guide", num_ctx=2048)
        print(await model.generate("Hello!"))

Settings are those of ``server.config`` (environment included) unless given here. Models run in worker processes,
exactly as behind the server; errors are those of ``server.errors``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import struct
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, overload

import modelfiles
from modelfiles import gguf
from modelfiles.errors import GGUFError
from server import inference, options
from server.app import build_house
from server.config import Config
from server.errors import InvalidRequest, ModelNotFound
from server.hardware import devices
from server.store import builtin, capabilities
from server.store.library import Library
from server.store.model_config import ModelConfig
from server.store.record import Record
from server.types import ChatRequest, Chunk, CompletionRequest, EmbedRequest, Final, Message, ModelSpec, ToolCall

FOREVER = -1.0
Prompt = str | Sequence[Message | Mapping[str, Any]]
CHAT_FIELDS = ("tools", "format", "think", "truncate", "shift", "logprobs", "top_logprobs")
TEXT_FIELDS = ("suffix", "system", "template", "raw", "images", "format", "think", "truncate", "shift", "logprobs",
               "top_logprobs")  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of an installed model. ``size`` in bytes; ``loaded``: in this process's memory now."""

    name: str
    digest: str
    size: int
    modified_at: datetime
    family: str
    parameter_size: str
    quantization: str
    context_length: int
    embedding_length: int
    capabilities: tuple[str, ...]
    loaded: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; ``str()`` of it is its text."""

    content: str
    thinking: str
    tool_calls: tuple[ToolCall, ...]
    final: Final

    def __str__(self) -> str:
        return self.content


class ResourceDetector(devices.ResourceDetector):
    """What this machine has: ``ResourceDetector().detect()``. Blocks for about half a second the first time."""

    def __init__(self, environment: Mapping[str, str] | None = None, **parts: Any) -> None:
        super().__init__(Config.load().child_environment if environment is None else environment, **parts)


class _Shelf(Library):
    """The store, and GGUF files that are used where they lie."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.models, go_template=config.go_template)
        self.files: dict[str, ModelSpec] = {}

    def resolve(self, name: str) -> ModelSpec:
        return self.files.get(name) or super().resolve(name)

    def add(self, path: Path) -> ModelSpec:
        spec = _spec_of_file(path)
        self.files[spec.name] = spec
        return spec


class LoadedModel:
    """Made by ``ModelManager.load_model``. Many requests may run side by side."""

    def __init__(self, manager: ModelManager, spec: ModelSpec, load: Mapping[str, Any]) -> None:
        self._manager = manager
        self._load = dict(load)
        self.spec = spec

    @property
    def name(self) -> str:
        return self.spec.name

    @overload
    def generate(
        self, prompt: Prompt, *, stream: Literal[False] = False, **given: Any
    ) -> Coroutine[Any, Any, Answer]: ...

    @overload
    def generate(self, prompt: Prompt, *, stream: Literal[True], **given: Any) -> AsyncGenerator[Chunk, None]: ...

    def generate(
        self, prompt: Prompt, *, stream: bool = False, **given: Any
    ) -> Coroutine[Any, Any, Answer] | AsyncGenerator[Chunk, None]:
        """Answer a text (by the model's template; ``raw=True``: as it stands) or the messages of a conversation.

        ``given``: options by Ollama's names (``temperature``, ``num_predict``, ``stop`` …), and ``tools``,
        ``format``, ``think``, ``system``, ``images`` … Without ``stream`` it is awaited; with it, iterated over.
        """
        chunks = self._stream(self._request(prompt, given))
        return chunks if stream else _collect(chunks)

    async def count_tokens(self, prompt: Prompt, **given: Any) -> int:
        """Tokens of a text as it stands, or of messages rendered by the model's template."""
        if isinstance(prompt, str):
            load = options.merge(self._manager.house.defaults, self.spec.parameters, self._load).load
            async with self._manager.house.manager.lease(self.spec, load, FOREVER) as runner:
                return len(await runner.tokenize(prompt, add_special=False, parse_special=True))
        request = dataclasses.replace(self._request(prompt, given), render_only=True)
        return (await _collect(self._stream(request))).final.prompt_tokens

    async def embeddings(self, texts: str | Sequence[str], *, dimensions: int = 0, **given: Any) -> list[list[float]]:
        """One vector (L2-normalized) for each text."""
        inputs = (texts,) if isinstance(texts, str) else tuple(texts)
        request = EmbedRequest(
            self.name, inputs, dimensions=dimensions, options=self._options(given), keep_alive=FOREVER
        )
        found = await inference.embed(self._manager.house, request)
        row = struct.Struct(f"<{found.width}f")
        return [list(numbers) for numbers in row.iter_unpack(found.vectors)] if found.width else []

    async def unload(self) -> bool:
        return await self._manager.unload_model(self)

    def _request(self, prompt: Prompt, given: Mapping[str, Any]) -> ChatRequest | CompletionRequest:
        names = TEXT_FIELDS if isinstance(prompt, str) else CHAT_FIELDS
        fields = {name: given[name] for name in names if name in given}
        rest = self._options({name: value for name, value in given.items() if name not in fields})
        for name in fields.keys() & {"tools", "images"}:
            fields[name] = tuple(fields[name])
        if isinstance(prompt, str):
            return CompletionRequest(self.name, prompt, options=rest, keep_alive=FOREVER, **fields)
        messages = tuple(map(_message, prompt))
        return ChatRequest(self.name, messages, options=rest, keep_alive=FOREVER, **fields)

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._load, **_checked(given)}

    async def _stream(self, request: ChatRequest | CompletionRequest) -> AsyncGenerator[Chunk, None]:
        house = self._manager.house
        if isinstance(request, ChatRequest):
            chunks = await inference.chat(house, request)
        else:
            chunks = await inference.complete(house, request)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk


class ModelManager:
    """Loads, shares and unloads models. ``settings`` are fields of ``server.config.Config`` (``models``,
    ``keep_alive``, ``max_loaded_models`` …). Use it in an ``async with`` block.
    """

    def __init__(self, **settings: Any) -> None:
        known = {field.name for field in dataclasses.fields(Config) if field.metadata}
        if unknown := sorted(settings.keys() - known):
            raise InvalidRequest(f"unknown settings: {', '.join(unknown)}")
        # Kept prefixes belong to the server, which may be running with the same data directory.
        self._config = Config.load(flags={**settings, "prefix_cache": False})
        self._settings = settings
        self._models: dict[str, dict[str, Any]] = {}
        self._shelf = _Shelf(self._config)
        self.house = dataclasses.replace(build_house(self._config), library=self._shelf)

    async def __aenter__(self) -> ModelManager:
        if self._config.guide:
            folder = Path(modelfiles.__file__).parent / "guide"
            await asyncio.to_thread(builtin.install, self._shelf, folder)
        await self.house.manager.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.house.manager.close()

    async def load_model(self, model: str | Path, **given: Any) -> LoadedModel:
        """By name, or the path of a GGUF file. ``given``: options that hold for every request unless it says
        otherwise; without any, those of the loaded configuration. The model stays until it is unloaded."""
        if isinstance(model, Path) or model[-5:].lower() == ".gguf":
            spec = await asyncio.to_thread(self._shelf.add, Path(model))
        else:
            spec = await asyncio.to_thread(self._shelf.resolve, model)
        chosen = _checked(given) or self._models.get(str(model), {})
        loaded = LoadedModel(self, spec, chosen)
        load = options.merge(self.house.defaults, spec.parameters, chosen).load
        async with self.house.manager.lease(spec, load, FOREVER):
            self._models[str(model)] = dict(chosen)
        return loaded

    async def unload_model(self, model: LoadedModel | str) -> bool:
        """False if it was not in memory. Requests that run may finish."""
        return await self.house.manager.unload(model.spec if isinstance(model, LoadedModel) else model)

    async def list_available_models(self) -> list[ModelInfo]:
        """Installed models, newest first, then files that were loaded by their path."""
        records = await asyncio.to_thread(self._shelf.models)
        resident = {entry.name for entry in self.house.manager.resident()}
        installed = [_info_of_record(record, resident) for record in records]
        return installed + [_info_of_file(spec, resident) for spec in self._shelf.files.values()]

    def save_config(self, path: str | Path) -> None:
        """Settings given here, and the options of every model loaded so far, as JSON."""
        data = {"settings": self._settings, "models": self._models}
        Path(path).write_text(json.dumps(data, indent=2, default=str) + "\n", "utf-8")

    @classmethod
    def load_config(cls, path: str | Path) -> ModelManager:
        """A manager with the settings of ``save_config``; its models get their options when they are loaded."""
        try:
            data = json.loads(Path(path).read_text("utf-8"))
            made = cls(**data["settings"])
            made._models = {str(name): _checked(given) for name, given in data["models"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRequest(f"{Path(path).name} is no saved configuration: {error}") from error
        return made


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := options.unknown(given):
        raise InvalidRequest(f"unknown options: {', '.join(unknown)}")
    return options.parse(given)


def _message(given: Message | Mapping[str, Any]) -> Message:
    if isinstance(given, Message):
        return given
    known = {field.name for field in dataclasses.fields(Message)}
    if "role" not in given or given.keys() - known:
        raise InvalidRequest(f"a message has a role and may have {', '.join(sorted(known - {'role'}))}")
    return Message(
        **{**given, "images": tuple(given.get("images", ())), "tool_calls": tuple(given.get("tool_calls", ()))}
    )


async def _collect(chunks: AsyncGenerator[Chunk, None]) -> Answer:
    found: list[Chunk] = []
    async with aclosing(chunks):
        found += [chunk async for chunk in chunks]
    return Answer(
        "".join(chunk.content for chunk in found),
        "".join(chunk.thinking for chunk in found),
        tuple(call for chunk in found for call in chunk.tool_calls),
        next((chunk.final for chunk in reversed(found) if chunk.final is not None), Final("stop")),
    )


def _spec_of_file(path: Path) -> ModelSpec:
    try:
        header, status = gguf.read_header(path), path.stat()
    except GGUFError as error:
        raise InvalidRequest(str(error)) from error
    except OSError as error:
        raise ModelNotFound(f"model '{path.name}' not found") from error
    return ModelSpec(
        name=str(path.resolve()),
        full_name=str(path.resolve()),
        digest="",
        weights_digest="",
        weights=path.resolve(),
        size=status.st_size,
        chat_template=header.chat_template,
        capabilities=frozenset(capabilities.of(ModelConfig(), header, (), None)),
        family=header.architecture,
        parameter_size=header.parameter_size,
        quantization=header.file_type,
        context_length=header.context_length,
        embedding_length=header.embedding_length,
    )


def _info_of_record(record: Record, resident: set[str]) -> ModelInfo:
    header, config, name = record.header, record.config, record.entry.name.short()
    return ModelInfo(
        name=name,
        digest=record.manifest.digest,
        size=record.manifest.size,
        modified_at=datetime.fromtimestamp(record.entry.mtime_ns / 1e9, UTC),
        family=config.model_family or (header.architecture if header else ""),
        parameter_size=config.model_type or (header.parameter_size if header else ""),
        quantization=record.file_type,
        context_length=header.context_length if header else config.context_length,
        embedding_length=header.embedding_length if header else config.embedding_length,
        capabilities=record.capabilities,
        loaded=name in resident,
    )


def _info_of_file(spec: ModelSpec, resident: set[str]) -> ModelInfo:
    return ModelInfo(
        name=spec.name,
        digest="",
        size=spec.size,
        modified_at=datetime.fromtimestamp(spec.weights.stat().st_mtime, UTC),
        family=spec.family,
        parameter_size=spec.parameter_size,
        quantization=spec.quantization,
        context_length=spec.context_length,
        embedding_length=spec.embedding_length,
        capabilities=tuple(sorted(spec.capabilities)),
        loaded=spec.name in resident,
    )
