"""The composition root: builds every room once, gives them lifetimes, listens, and leaves in good order.

``build_app`` is all of it but the socket. ``serve`` adds the socket and the signals: the first SIGTERM or
SIGINT drains (new work is refused, what runs may finish), a second one ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import platform
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

import modelfiles
from server import options
from server.api import admission, middleware, origins, routes
from server.api.responses_store import RESPONSES, ResponseStore
from server.api.state import CONFIG, HOUSE, METRICS, REGISTRY
from server.config import OLLAMA_VERSION, VERSION, Config, ConfigError
from server.errors import ServerError
from server.inference import House
from server.manager.manager import ModelManager
from server.manager.policy import Policy
from server.manager.resident import Resident
from server.metrics import Metrics
from server.store import builtin
from server.store.library import Library
from server.store.registry.client import Registry
from server.store.registry.settings import Settings

logger = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 75.0
LAG_SECONDS = 1.0
RELEASE_SECONDS = 10.0


def build_app(config: Config, house: House | None = None) -> web.Application:
    """``house`` None = the real rooms; tests hand in their own."""
    app = web.Application(middlewares=[middleware.outermost, middleware.slashes])
    app[CONFIG] = config
    app[METRICS] = Metrics()
    app[admission.KEY] = admission.Admission()
    app[RESPONSES] = ResponseStore()
    app[origins.ORIGINS] = origins.Origins(config.origins, check_host=config.host.loopback)
    app.on_response_prepare.append(middleware.add_headers)
    routes.add_to(app.router)
    app[HOUSE] = house or build_house(config)
    app[REGISTRY] = Registry(app[HOUSE].library, registry_settings(config))
    app[METRICS].watch(lambda: gauges(app[HOUSE].manager.resident()))
    if house is None:
        app.cleanup_ctx.append(_rooms)
    app.cleanup_ctx.append(_registry)
    app.cleanup_ctx.append(_lag)
    return app


def build_house(config: Config) -> House:
    """The rooms behind the hallway; ``_rooms`` starts and stops them."""
    policy = Policy(
        keep_alive=config.keep_alive,
        max_loaded=config.max_loaded_models,
        max_queue=config.max_queue,
        load_timeout=config.load_timeout,
        hang_timeout=config.hang_timeout,
        context_length=config.context_length,
        max_ctx=config.max_ctx,
        spread=config.sched_spread,
        gpu_overhead=config.gpu_overhead,
    )
    kept = config.data_dir if config.prefix_cache else None
    manager = ModelManager(policy, environment=config.child_environment, data_dir=kept)
    library = Library(
        config.models,
        keep=lambda digest: library.blobs.path(digest) in manager.in_use(),
        go_template=config.go_template,
        prune=not config.noprune,
    )
    return House(library, manager, option_defaults(config), config.max_ctx, config.request_timeout)


def option_defaults(config: Config) -> dict[str, Any]:
    """What the environment says about every model; a model's own parameters and requests stand above it.

    ConfigError where no model could be loaded with it.
    """
    given = {
        "num_parallel": config.num_parallel,
        "kv_cache_type": config.kv_cache_type,
        "flash_attention": config.flash_attention,
    }
    try:
        return options.parse({name: value for name, value in given.items() if value not in (None, 0)})
    except ServerError as error:
        raise ConfigError([f"{error.message} (OLLAMA_NUM_PARALLEL, OLLAMA_KV_CACHE_TYPE)"]) from None


def registry_settings(config: Config) -> Settings:
    """What the registries' room needs of the configuration."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return Settings(
        registries=config.registries,
        mirrors=dict(config.mirrors),
        proxies={"http": config.http_proxy, "https": config.https_proxy},
        no_proxy=config.no_proxy,
        key=config.key,
        logins=config.docker_config / "config.json",
        hf_token=config.hf_token,
        hf_cache=config.hf_home / "hub",
        # registry.ollama.ai gives models only to an Ollama that is new enough for them
        agent=f"ollama/{OLLAMA_VERSION} ({machine} {platform.system().lower()}) llamada/{VERSION}",
    )


async def _registry(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[REGISTRY].close()


async def _rooms(app: web.Application) -> AsyncIterator[None]:
    """The store is swept before anybody asks, the built-in model is there, no worker outlives the server."""
    house, config = app[HOUSE], app[CONFIG]
    await asyncio.to_thread(house.library.sweep)
    if config.guide:
        folder = Path(modelfiles.__file__).parent / "guide"
        try:
            await asyncio.to_thread(builtin.install, house.library, folder)
        except ServerError as error:  # a store that is full or read-only still has its other models
            logger.warning("the built-in model cannot be installed: %s", error.message)
    async with house.manager, _every(RELEASE_SECONDS, house.library.release):
        yield


@contextlib.asynccontextmanager
async def _every(seconds: float, work: Callable[[], None]) -> AsyncIterator[None]:
    """Runs ``work`` in a thread again and again while the block is open."""

    async def again() -> None:
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(work)

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def gauges(resident: Iterable[Resident]) -> list[tuple[str, str, dict[str, float]]]:
    """What ``/metrics`` reads of the models in memory, by vLLM's names."""
    entries = list(resident)

    def each(read: Callable[[Resident], float]) -> dict[str, float]:
        return {entry.name: read(entry) for entry in entries}

    return [
        ("num_requests_running", "Requests being answered.", each(lambda e: e.running)),
        ("num_requests_waiting", "Requests that wait for a slot or a load.", each(lambda e: e.queued)),
        ("slots", "Sequences that can run side by side.", each(lambda e: e.slots)),
        ("kv_cache_usage_perc", "Used part of the KV cache, 0 to 1.", each(_kv_usage)),
        ("engine_steps", "Steps of the engine since the load.", each(lambda e: e.stats.steps)),
        ("engine_compute_seconds", "Time in forward passes since the load.", each(lambda e: e.stats.compute_ns / 1e9)),
        ("engine_host_seconds", "Time of engine steps outside forward passes.", each(lambda e: e.stats.host_ns / 1e9)),
        ("engine_tokens", "Tokens generated since the load.", each(lambda e: e.stats.output_tokens)),
        ("model_memory_bytes", "Memory of a loaded model.", each(lambda e: e.size)),
        ("model_gpu_memory_bytes", "Its part on GPUs.", each(lambda e: e.size_vram)),
    ]


def _kv_usage(entry: Resident) -> float:
    return entry.stats.kv_used / entry.stats.kv_size if entry.stats.kv_size else 0.0


async def _lag(app: web.Application) -> AsyncIterator[None]:
    """Measures how late the event loop is: what every stream feels at once."""
    gauge, loop = app[METRICS].lag, asyncio.get_running_loop()

    async def watch() -> None:
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            gauge.set(max(0.0, loop.time() - due))

    task = asyncio.create_task(watch())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


# -- listening ------------------------------------------------------------------------------------------


def serve(config: Config, on_ready: Callable[[str], None] | None = None) -> int:
    """Runs until a signal; the exit status. ``on_ready`` gets the URL once the socket listens."""
    for warning in config.warnings:
        logger.warning("%s", warning)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(config, on_ready))
    except OSError as error:
        return _refuse(f"{error.filename or 'the server'} cannot be used: {(error.strerror or str(error)).lower()}")
    except ServerError as error:
        return _refuse(error.message)
    return 0


def _refuse(reason: str) -> int:
    print(f"Error: {reason}", file=sys.stderr)  # noqa: T201 - nobody reads logs yet
    return 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(config: Config, on_ready: Callable[[str], None] | None) -> None:
    app = build_app(config)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=5.0,
    )
    first, second = asyncio.Event(), asyncio.Event()
    _on_signals(first, second)
    await runner.setup()
    try:
        sockets = await _listen(runner, config)
        host, port = sockets.sockets[0].getsockname()[:2]
        logger.info("listening on %s:%d", host, port)
        if not config.host.loopback:
            logger.warning("%s", _exposed(config, port))
        if on_ready is not None:
            on_ready(replace(config.host, port=port).url)
        await first.wait()
        logger.info("shutting down: %d requests may finish", len(app[admission.KEY].running))
        await app[admission.KEY].drain(config.drain_timeout, second)
        sockets.close()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, config: Config) -> asyncio.Server:
    server = runner.server
    if server is None:
        raise RuntimeError("the runner was not set up")

    def doorman() -> admission.Doorman:
        return admission.Doorman(server, config.max_connections, config.max_connections_per_ip)

    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(doorman, config.host.host or None, config.host.port, backlog=512)
    except OSError as error:
        raise ServerError(_cannot_listen(config, error)) from error


def _on_signals(first: asyncio.Event, second: asyncio.Event) -> None:
    def received() -> None:
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received)


def _exposed(config: Config, port: int) -> str:
    where = config.host.host or "every address of this machine"
    return (
        f"ANYONE who can reach {where}, port {port}, may use, change and delete the models here: no keys are asked "
        "for. Set OLLAMA_HOST=127.0.0.1 or put a proxy that asks for a password in front."
    )


def _cannot_listen(config: Config, error: OSError) -> str:
    where = f"{config.host.host or '0.0.0.0'}:{config.host.port}"
    if error.errno == errno.EADDRINUSE:
        other = config.host.port + 1
        return (
            f"{where} is in use, perhaps by an Ollama that runs already. "
            f"Stop it, or type OLLAMA_HOST=127.0.0.1:{other} llamada serve"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} may not be listened on by this user; choose a port of 1024 or more in OLLAMA_HOST"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {config.host.host}; see OLLAMA_HOST"
    return f"cannot listen on {where}: {error.strerror}"
