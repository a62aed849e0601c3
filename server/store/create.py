"""Create a model: from uploaded GGUFs or a checkpoint, or an installed model; every Modelfile instruction is a field.

``check`` answers what is wrong with the request itself, before anything is streamed; ``create`` yields progress
objects in Ollama's order and texts. Nothing on this machine is opened because a client named it: files are blobs
by digest. The name stands for the new layers only at the very end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from types import MappingProxyType
from typing import Any

from server.errors import InvalidRequest, ModelNotFound
from server.store.assembly import Assembly
from server.store.checkpoints import NO_DIGEST, converted, is_checkpoint
from server.store.digests import Digest
from server.store.importance import Importance
from server.store.layers import Part
from server.store.library import Library
from server.store.requests import CreateRequest, check
from server.store.rewrite import link_parts, rewrite
from server.store.sources import Sources, Weights

__all__ = ["CreateRequest", "check", "create"]

NOTHING: Mapping[str, Any] = MappingProxyType({})

Event = dict[str, Any]
Pull = Callable[[str], AsyncGenerator[Event, None]]


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
                async with aclosing(pull(request.source)) as events:
                    async for event in events:
                        yield event
            await asyncio.to_thread(sources.add_base, request.source)
        elif request.files is None:
            raise InvalidRequest("neither 'from' or 'files' was specified")
        for files, add, kind in (
            (request.files, sources.add_files, "model"),
            (request.draft_files, sources.add_drafts, "draft"),
            (request.adapters, sources.add_adapters, "adapter"),
        ):
            if files is None:
                continue
            if is_checkpoint(files):
                steps = converted(library, sources, files, kind, request, name.model, environment)
            else:
                steps = _added(files, add)
            async with aclosing(steps) as events:
                async for event in events:
                    yield event
        await asyncio.to_thread(sources.check)

        parts: list[Part] = []
        importance = Importance(library, request, sources, pins)
        for weights in sources.weights:
            kind = weights.rewrite_as(request)
            options: tuple[str, ...] = ()
            if weights.kind == "model":
                async with aclosing(importance.prepare(weights, environment)) as news:
                    async for event in _events(news, "computing the importance matrix", weights.size):
                        yield event
                options = importance.options(kind) if kind != "COPY" else ()
            if kind:
                work = _rewritten(library, weights, kind, options, environment, pins, parts)
                async with aclosing(work) as events:
                    async for event in events:
                        yield event
            else:
                parts += [weights.part, *weights.more]

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
    options: Sequence[str],
    environment: Mapping[str, str],
    pins: ExitStack,
    parts: list[Part],
) -> AsyncGenerator[Event, None]:
    """The layer of ``weights`` made anew by llama.cpp, appended to ``parts``."""
    blobs = library.blobs
    copy = kind == "COPY"
    status = "validating GGUF model" if copy else f"quantizing {weights.type_name} model to {kind}"
    with blobs.staging() as folder:
        source = link_parts(folder, blobs, weights.files) if weights.files else blobs.path(weights.part.layer.digest)
        out = folder / "out.gguf"
        async with aclosing(rewrite(source, out, kind, environment, options)) as news:
            async for event in _events(news, status, weights.size):
                if not copy or 0 < event.get("completed", 1) < weights.size:
                    yield event
        yield {"status": "verifying conversion"}
        parts.append(await asyncio.to_thread(weights.adopt, library, out, pins))


async def _events(news: AsyncIterator[float | str], status: str, size: int) -> AsyncGenerator[Event, None]:
    """Fractions as bytes of the model, remarks as lines of their own."""
    async for item in news:
        if isinstance(item, str):
            yield {"status": f"warning: {item}"}
        else:
            yield {"status": status, "digest": NO_DIGEST, "total": size, "completed": int(item * size)}
