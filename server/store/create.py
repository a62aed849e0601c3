"""Create a model: from uploaded GGUF blobs or an installed model, with every Modelfile instruction as a field.

``check`` answers what is wrong with the request itself, before anything is streamed; ``create`` yields progress
objects in Ollama's order and texts. Nothing on this machine is opened because a client named it: files are blobs
by digest. The name stands for the new layers only at the very end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from modelfiles.names import ModelName
from server.errors import InvalidRequest, ModelNotFound, Unsupported
from server.store.assembly import Assembly
from server.store.digests import Digest
from server.store.layers import Part
from server.store.library import Library, parse_name
from server.store.rewrite import link_parts, rewrite
from server.store.sources import Sources, Weights
from server.types import Message

NO_DIGEST = "0000000000000000000"
NOTHING: Mapping[str, Any] = MappingProxyType({})
INFO_TEXTS = ("model_family", "base_name", "quantization_level", "parameter_size")
INFO_NUMBERS = ("context_length", "embedding_length")
UNSAFE = re.compile(r"[\\\x00]")

Event = dict[str, Any]
Pull = Callable[[str], AsyncIterator[Event]]


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """``POST /api/create``. ``source`` is its ``from``; ``files`` None = not given; ``license`` as it came."""

    model: str
    source: str = ""
    files: Mapping[str, str] | None = None
    adapters: Mapping[str, str] | None = None
    draft_files: Mapping[str, str] | None = None
    quantize: str = ""
    draft_quantize: str = ""
    template: str = ""
    system: str = ""
    license: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    remote_host: str = ""


def check(request: CreateRequest) -> ModelName:
    """The target's name. InvalidRequest for what Ollama refuses before it answers 200."""
    for files in (request.files, request.draft_files, request.adapters):
        for path, digest in (files or {}).items():
            if not _relative(path):
                raise InvalidRequest("file path must be relative")
            Digest.parse(digest)
    if request.draft_quantize and not request.draft_files:
        raise InvalidRequest("--draft-quantize requires a DRAFT model")
    if not request.model:
        raise InvalidRequest("invalid model name")
    name = parse_name(request.model)
    _check_info(request.info)
    if request.remote_host:
        raise Unsupported("this server cannot create remote models")
    if not request.source and request.files is None:
        raise InvalidRequest("neither 'from' or 'files' was specified")
    return name


def _relative(path: str) -> bool:
    """A path that stays below where it is put, on every system."""
    return not UNSAFE.search(path) and all(part not in ("", ".", "..") for part in path.split("/"))


def _check_info(info: Mapping[str, Any]) -> None:
    for name in INFO_NUMBERS:
        value = info.get(name, 0)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not 0 <= value < 2**53:
            raise InvalidRequest(f'info field "{name}" must be a non-negative integer')
    for name in INFO_TEXTS:
        if not isinstance(info.get(name, ""), str):
            raise InvalidRequest(f'info field "{name}" must be a string')
    capabilities = info.get("capabilities", [])
    if not isinstance(capabilities, list) or not all(isinstance(item, str) for item in capabilities):
        raise InvalidRequest('info field "capabilities" must be a list of strings')


async def create(
    library: Library,
    request: CreateRequest,
    *,
    environment: Mapping[str, str] = NOTHING,
    pull: Pull | None = None,
) -> AsyncGenerator[Event, None]:
    """``environment``: where the converter's few variables come from. ``pull``: fetches a missing ``from``."""
    name = check(request)
    with ExitStack() as pins:
        sources = Sources(library, pins)
        if request.source:
            if await asyncio.to_thread(sources.find_base, request.source) is None:
                if pull is None:
                    raise ModelNotFound(f"model '{request.source}' not found")
                async for event in pull(request.source):
                    yield event
            await asyncio.to_thread(sources.add_base, request.source)
        for files, add in (
            (request.files, sources.add_files),
            (request.draft_files, sources.add_drafts),
            (request.adapters, sources.add_adapters),
        ):
            if files is not None:
                async with aclosing(_added(files, add)) as events:
                    async for event in events:
                        yield event
        await asyncio.to_thread(sources.check)

        parts: list[Part] = []
        for weights in sources.weights:
            kind = weights.rewrite_as(request.quantize, request.draft_quantize)
            if kind:
                async with aclosing(_rewritten(library, weights, kind, environment, pins, parts)) as events:
                    async for event in events:
                        yield event
            else:
                parts.append(weights.part)

        assembly = Assembly(library, request, sources, parts, pins)
        config, made = await asyncio.to_thread(assembly.build)
        for part in made:
            if part.status:
                yield {"status": part.status}
        yield {"status": "writing manifest"}
        await asyncio.to_thread(library.write, name, config, tuple(part.layer for part in made))
        yield {"status": "success"}


async def _added(files: Mapping[str, str], add: Callable[[Mapping[str, Digest]], Any]) -> AsyncGenerator[Event, None]:
    """Announces each GGUF before it is read, as Ollama does; errors come after their line."""
    steps = add({path: Digest.parse(digest) for path, digest in sorted(files.items())})
    while True:
        status = await asyncio.to_thread(next, steps, None)
        if status is None:
            return
        yield {"status": status}


async def _rewritten(
    library: Library,
    weights: Weights,
    kind: str,
    environment: Mapping[str, str],
    pins: ExitStack,
    parts: list[Part],
) -> AsyncGenerator[Event, None]:
    """The layer of ``weights`` made anew by llama.cpp, appended to ``parts``."""
    blobs, size = library.blobs, weights.size
    status = "validating GGUF model" if kind == "COPY" else f"quantizing {weights.type_name} model to {kind}"
    with blobs.staging() as folder:
        source = link_parts(folder, blobs, weights.files) if weights.files else blobs.path(weights.part.layer.digest)
        out = folder / "out.gguf"
        async with aclosing(rewrite(source, out, kind, environment)) as fractions:
            async for fraction in fractions:
                if kind != "COPY" or 0 < fraction < 1:
                    yield {"status": status, "digest": NO_DIGEST, "total": size, "completed": int(fraction * size)}
        yield {"status": "verifying conversion"}
        parts.append(await asyncio.to_thread(weights.adopt, library, out, pins))
