"""The hallway that every protocol walks: resolve the name → check capabilities → fill in the model's defaults
→ lease a runner → stream its chunks.

Knows neither HTTP nor JSON nor how a model is run. ``chat`` and ``complete`` fail at the call with whatever is
wrong with the request itself; what happens later fails inside the stream.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelfiles.conversation import strip_thinking
from server import options
from server.errors import InvalidRequest, ModelNotFound, RunnerError, ServerError, Unsupported
from server.types import (
    ChatPrompt,
    ChatRequest,
    Chunk,
    CompletionRequest,
    DetokenizeRequest,
    Embeddings,
    EmbedRequest,
    Final,
    Generation,
    Message,
    ModelSpec,
    TextPrompt,
    Think,
    TokenizeRequest,
)

if TYPE_CHECKING:  # the hallway is handed its rooms, it builds none
    from server.manager.manager import ModelManager
    from server.store.library import Library

MIN_CTX = 4
THINK_TAGS = ("<think>", "</think>")
RENDERERS = frozenset(
    "qwen3-coder qwen3-vl-instruct qwen3-vl-thinking qwen3.5 qwen3.8 ornith cogito deepseek3.1 olmo3 olmo3.1 "
    "olmo3-think olmo3-32b-think nemotron-3-nano nemotron-3.5-nano gemma4 gemma4-small gemma4-large functiongemma "
    "glm-4.7 glm-ocr lfm2 lfm2-thinking laguna poolside-v1 cohere glimmer".split()
)


@dataclass(frozen=True, slots=True)
class House:
    """What the hallway needs of the rooms. ``defaults``: this server's option values, below the models' own.

    ``max_ctx`` 0 and ``request_timeout`` (seconds) 0 = no bound.
    """

    library: Library
    manager: ModelManager
    defaults: Mapping[str, Any] = field(default_factory=dict)
    max_ctx: int = 0
    request_timeout: float = 0.0


async def chat(house: House, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
    spec = await resolve(house, request.model)
    if not request.messages and request.keep_alive == 0:
        return _unload(house, spec)
    tools = _tools(request)
    missing = ["tools"] if tools and "tools" not in spec.capabilities else []
    think = _require(spec, request, "chat", missing)
    if not request.messages:
        return _load(house, spec, request)
    messages = spec.messages + request.messages
    if spec.system and request.messages[0].role != "system":
        messages = (Message("system", spec.system), *messages)
    _check_renderer(spec)
    prompt = ChatPrompt(_without_old_thoughts(spec, messages), tools, request.tool_choice, think)
    answer = _generate(house, spec, request, prompt)
    return answer if request.tool_choice.parallel else _first_call_only(answer)


async def count(house: House, request: ChatRequest) -> int:
    """Tokens of the prompt as the model's template renders it; nothing is generated."""
    async with aclosing(await chat(house, dataclasses.replace(request, render_only=True))) as chunks:
        async for chunk in chunks:
            if chunk.final is not None:
                return chunk.final.prompt_tokens
    raise RuntimeError("a stream ends with a final chunk")


def _tools(request: ChatRequest) -> tuple[dict[str, Any], ...]:
    """The tools that the model is to see."""
    choice = request.tool_choice
    if choice.kind == "none":
        return ()
    if choice.kind == "required" and not request.tools:
        raise InvalidRequest("a tool call is required, but the request has no tools")
    if choice.name and not any((tool.get("function") or {}).get("name") == choice.name for tool in request.tools):
        raise InvalidRequest(f'a call of the tool "{choice.name}" is required, but the request has no such tool')
    return request.tools


async def complete(house: House, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
    if not request.model:
        raise ModelNotFound("model '' not found")
    spec = await resolve(house, request.model)
    if not request.prompt and request.keep_alive == 0:
        return _unload(house, spec)
    if request.raw and (request.template or request.system or request.context):
        raise InvalidRequest("raw mode does not support template, system, or context")
    missing = ["insert"] if request.suffix and "insert" not in spec.capabilities else []
    think = _require(spec, request, "generate", missing)
    if not request.prompt:
        return _load(house, spec, request)
    if not (request.raw or request.template or request.suffix):
        _check_renderer(spec)
    own_system = "" if request.context else spec.system
    prompt = TextPrompt(
        request.prompt,
        suffix=request.suffix,
        system=request.system or own_system,
        raw=request.raw,
        think=think,
        template=request.template or None,
        context=request.context,
        images=request.images,
        history=() if request.context or request.raw else spec.messages,
    )
    return _generate(house, spec, request, prompt)


async def embed(house: House, request: EmbedRequest) -> Embeddings:
    if not request.model:
        raise ModelNotFound("model '' not found")
    try:
        spec = await resolve(house, request.model)
    except ModelNotFound:
        raise ModelNotFound(f'model "{request.model}" not found, try pulling it first') from None
    merged = _merge(house, spec, request.options)
    started = time.monotonic_ns()
    async with house.manager.lease(spec, merged.load, request.keep_alive) as runner:
        load_ns = max(1, time.monotonic_ns() - started)
        if not request.inputs:
            return Embeddings(b"", 0, 0, 0, load_ns)
        found = await runner.embed(
            request.inputs,
            truncate=request.truncate,
            dimensions=request.dimensions,
            normalize=request.normalize,
            num_ctx=merged.limits.num_ctx,
        )
    return dataclasses.replace(found, load_ns=load_ns)


async def tokenize(house: House, request: TokenizeRequest) -> tuple[int, ...]:
    spec = await resolve(house, request.model)
    async with house.manager.lease(spec, _merge(house, spec, request.options).load, request.keep_alive) as runner:
        return await runner.tokenize(request.text, add_special=request.add_special, parse_special=request.parse_special)


async def detokenize(house: House, request: DetokenizeRequest) -> str:
    spec = await resolve(house, request.model)
    async with house.manager.lease(spec, _merge(house, spec, request.options).load, request.keep_alive) as runner:
        return await runner.detokenize(request.tokens)


async def resolve(house: House, name: str) -> ModelSpec:
    """In a thread: the first time, a model's header is read from disk."""
    return await asyncio.to_thread(house.library.resolve, name)


def _require(spec: ModelSpec, request: ChatRequest | CompletionRequest, verb: str, missing: list[str]) -> Think:
    """Refuses what the model cannot do; otherwise how it is to think (unset means yes for a model that can)."""
    if "completion" not in spec.capabilities:
        raise Unsupported(f'"{request.model}" does not support {verb}')
    if missing:
        raise Unsupported(f"{spec.full_name} does not support {chr(10).join(missing)}")
    thinks = "thinking" in spec.capabilities
    if request.think and not thinks:
        raise Unsupported(f'"{request.model}" does not support thinking')
    return True if request.think is None and thinks else request.think


def _check_renderer(spec: ModelSpec) -> None:
    """The names that Ollama knows are rendered by the model's own template; others it accepts at create, not at use."""
    if spec.renderer and spec.renderer not in RENDERERS:
        raise ServerError(f'unknown renderer "{spec.renderer}"')


def _without_old_thoughts(spec: ModelSpec, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What models of these two lines thought before the last question is left out: they learned so."""
    model = spec.full_name.rpartition("/")[2].partition(":")[0]
    if spec.family != "qwen3" and model.lower() != "deepseek-r1":
        return messages
    last = max((index for index, message in enumerate(messages) if message.role == "user"), default=0)
    old = (
        dataclasses.replace(m, thinking="", content=strip_thinking(m.content, THINK_TAGS))
        if m.role == "assistant"
        else m
        for m in messages[:last]
    )
    return (*old, *messages[last:])


async def _first_call_only(answer: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """Without parallel calls the first one stands, and nothing behind it is passed on."""
    called = False
    async with aclosing(answer) as chunks:
        async for chunk in chunks:
            if called:
                chunk = Chunk(final=chunk.final)
                if chunk.final is None:
                    continue
            elif chunk.tool_calls:
                called = True
                chunk = dataclasses.replace(chunk, tool_calls=chunk.tool_calls[:1])
            yield chunk


def _merge(house: House, spec: ModelSpec, given: Mapping[str, Any]) -> options.Merged:
    """Server defaults < the model's parameters < the request; the window within what the model was trained for."""
    merged = options.merge(house.defaults, spec.parameters, given)
    bounds = [bound for bound in (spec.context_length, house.max_ctx) if bound]
    num_ctx = merged.load.num_ctx
    if num_ctx:
        num_ctx = max(min([num_ctx, *bounds]), MIN_CTX)
    load = dataclasses.replace(merged.load, num_ctx=num_ctx)
    return dataclasses.replace(merged, load=load, limits=dataclasses.replace(merged.limits, num_ctx=num_ctx))


async def _load(house: House, spec: ModelSpec, request: ChatRequest | CompletionRequest) -> AsyncGenerator[Chunk, None]:
    """An empty prompt loads the model and leaves it in memory."""
    async with house.manager.lease(spec, _merge(house, spec, request.options).load, request.keep_alive):
        pass
    yield Chunk(final=Final("load"))


async def _unload(house: House, spec: ModelSpec) -> AsyncGenerator[Chunk, None]:
    """An empty prompt with ``keep_alive`` 0, whatever the model is for and whether or not it is loaded."""
    await house.manager.unload(spec)
    yield Chunk(final=Final("unload"))


async def _generate(
    house: House, spec: ModelSpec, request: ChatRequest | CompletionRequest, prompt: ChatPrompt | TextPrompt
) -> AsyncGenerator[Chunk, None]:
    started = time.monotonic_ns()
    merged = _merge(house, spec, request.options)
    generation = Generation(
        prompt,
        template=spec.template,
        parser=spec.parser,
        sampling=merged.sampling,
        limits=dataclasses.replace(merged.limits, truncate=request.truncate, shift=request.shift),
        format=request.format,
        top_logprobs=request.top_logprobs if request.logprobs else -1,
        want_context=isinstance(prompt, TextPrompt) and not prompt.raw,
        render_only=request.render_only,
    )
    async with house.manager.lease(spec, merged.load, request.keep_alive) as runner:
        load_ns = max(1, time.monotonic_ns() - started)
        deadline = started + int(house.request_timeout * 1e9) if house.request_timeout else 2**63
        pieces = 0
        async with aclosing(runner.generate(generation)) as chunks:
            async for chunk in chunks:
                if chunk.final is not None:
                    yield dataclasses.replace(chunk, final=dataclasses.replace(chunk.final, load_ns=load_ns))
                    return
                pieces += 1
                yield chunk
                if time.monotonic_ns() > deadline:
                    break
            else:
                raise RunnerError("the model runner ended its answer without finishing it")
        # Out of time: the answer ends as if num_predict had been reached.
        spent = time.monotonic_ns() - started - load_ns
        yield Chunk(final=Final("length", output_tokens=pieces, decode_ns=spent, load_ns=load_ns))
