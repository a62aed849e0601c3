"""`doctor`: what this installation is, what this machine has, and what does not fit together.

Each check is a function of the settings that returns findings; a finding says what to type. Exit status 1 when
something will not work, 0 when there are only warnings.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from server.cli.build import read_build
from server.cli.client import Client
from server.cli.context import echo_json, json_flag
from server.cli.errors import APIError, CliError, ServerDown
from server.cli.version import installed
from server.cli.words import human_bytes
from server.config import Config

LOW_DISK = 5 * 1000**3
LOW_MEMORY = 1000**3
MARKS = {"ok": "ok      ", "warning": "WARNING ", "problem": "PROBLEM "}
LIBRARIES = ("llama-cpp-python", "aiohttp", "numpy", "llguidance", "jinja2", "orjson", "gguf")


@dataclass(frozen=True, slots=True)
class Finding:
    level: Literal["ok", "warning", "problem"]
    what: str
    text: str


Findings = Iterator[Finding]


@click.command("doctor")
@json_flag
def doctor_command(as_json: bool) -> int:
    """Check this machine and installation; says what to type where something is wrong."""
    config = Config.load()
    checks: tuple[Callable[[Config], Findings], ...] = (versions, build, hardware, server, store, disk)
    findings = [finding for check in checks for finding in check(config)]
    bad = any(finding.level == "problem" for finding in findings)
    if as_json:
        echo_json({"ok": not bad, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{MARKS[finding.level]}{finding.what}: {finding.text}")
    return int(bad)


def versions(_: Config) -> Findings:
    from importlib.metadata import PackageNotFoundError, version

    yield Finding("ok", "llamada", f"{installed()}, Python {platform.python_version()}, {platform.platform()}")
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding("ok", "libraries", ", ".join(found))
    if missing:
        yield Finding("problem", "libraries", f"{', '.join(missing)} not installed: make setup")


def build(_: Config) -> Findings:
    chosen = read_build()
    if chosen is None:
        yield Finding("ok", "build", "llama-cpp-python as pip built it (not by `make setup`)")
        return
    other = "to choose another: LLAMADA_BUILD=cpu|cuda|metal|rocm|vulkan|auto make setup"
    yield Finding("ok", "build", f"{chosen.kind}, because {chosen.reason}; {other}")


def hardware(config: Config) -> Findings:
    """Asks llama.cpp in a process of its own, as the server does."""
    from server.hardware.devices import ResourceDetector

    machine = ResourceDetector(config.child_environment).detect()
    yield Finding("ok", "processor", f"{machine.cores} cores, {machine.threads} threads per model")
    memory = f"{human_bytes(machine.memory_available)} of {human_bytes(machine.memory_total)} free"
    low = machine.memory_available < LOW_MEMORY
    advice = "; close something, or use smaller models" if low else ""
    yield Finding("warning" if low else "ok", "memory", memory + advice)
    for gpu in machine.gpus:
        text = f"{gpu.name}, {human_bytes(gpu.free)} of {human_bytes(gpu.total)} free, {gpu.backend or 'unused'}"
        yield Finding("ok", "gpu", text)
    for problem in machine.problems:
        yield Finding("problem", "llama.cpp", f"{problem}; try `make setup`")
    for warning in machine.warnings():
        if warning not in machine.problems:
            yield Finding("warning", "llama.cpp", warning)


def server(config: Config) -> Findings:
    """Who is at OLLAMA_HOST, and if nobody, whether we could be."""
    url = config.host.url
    try:
        answer = Client(config.host).get("/api/version")
    except ServerDown:
        yield from port(config)
    except (APIError, CliError) as error:
        yield Finding("problem", "server", f"something at {url} is no Ollama server: {error}")
    else:
        if "llamada" in answer:
            yield Finding("ok", "server", f"llamada {answer['llamada']} answers at {url}")
        else:
            free = f"OLLAMA_HOST=127.0.0.1:{config.host.port + 1}"
            text = f"{url} is an Ollama {answer.get('version', '')}, not llamada; serve beside it: {free} llamada serve"
            yield Finding("warning", "server", text)


def port(config: Config) -> Findings:
    host, number = config.host.host, config.host.port
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host or None, number, type=socket.SOCK_STREAM)[:1]:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        yield Finding("problem", "server", f"cannot listen at {host}:{number}: {error.strerror}; see OLLAMA_HOST")
    else:
        yield Finding("ok", "server", f"none runs; {config.host.url} is free for `llamada serve`")


def store(config: Config) -> Findings:
    """Manifests and sizes only; `llamada fsck` reads every byte."""
    from server.errors import StoreError
    from server.store.blobs import Blobs
    from server.store.manifests import Manifests

    root = config.models
    if not os.access(nearest(root), os.W_OK):
        yield Finding("problem", "models", f"{nearest(root)} cannot be written; see OLLAMA_MODELS")
        return
    blobs, manifests, count = Blobs(root), Manifests(root), 0
    for entry in manifests.entries():
        count += 1
        try:
            needed = manifests.read(entry).blobs()
        except StoreError as error:
            yield Finding("problem", "models", f"{entry.name.short()}: {error.message}; see `llamada fsck`")
            continue
        if any(blobs.size(digest) != size for digest, size in needed.items()):
            yield Finding("problem", "models", f"{entry.name.short()} has missing or cut files; see `llamada fsck`")
    there = f"{count} in {root}" if root.exists() else f"{root} is not there yet, `llamada serve` makes it"
    yield Finding("ok", "models", f"{there}; `llamada fsck` checks every byte")


def disk(config: Config) -> Findings:
    usage = shutil.disk_usage(nearest(config.models))
    low = usage.free < LOW_DISK
    text = f"{human_bytes(usage.free)} of {human_bytes(usage.total)} free for models"
    yield Finding("warning" if low else "ok", "disk", text + ("; free some, or move OLLAMA_MODELS" if low else ""))


def nearest(path: Path) -> Path:
    """The path itself or the first folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
