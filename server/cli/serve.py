"""`serve`: the settings as flags, the log, and a word of welcome once the socket listens."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from server.cli.build import read_build
from server.cli.version import installed
from server.config import Address, Config

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """One flag for each setting that has an environment variable; texts, as `Config` takes them."""
    for field in reversed(dataclasses.fields(Config)):
        if field.metadata and field.repr and field.name not in ("nohistory", "editor"):  # no secret in a process list
            flag = f"--{field.name.replace('_', '-')}"
            command = click.option(flag, field.name, default=None, metavar="VALUE", help=field.metadata["env"])(command)
    return command


@click.command("serve")
@settings
@click.option("--until-stdin-closes", is_flag=True, hidden=True)
def serve_command(until_stdin_closes: bool, **flags: str | None) -> int:
    """Start the server. Every flag is also an environment variable, and a line in llamada.toml."""
    config = Config.load(flags=flags)
    level = {0: logging.INFO, 1: logging.DEBUG}.get(config.debug, logging.NOTSET)
    logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)
    from server.app import serve

    if until_stdin_closes:
        threading.Thread(target=leave_with_stdin, daemon=True).start()
        return serve(config, on_ready=click.echo)
    return serve(config, on_ready=lambda url: click.echo(welcome(url, config), err=True))


def leave_with_stdin() -> None:
    """A private server outlives its command by nothing, however that ends."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def welcome(url: str, config: Config) -> str:
    build = read_build()
    lines = [f"llamada {installed()} listens on {url}"]
    if build:
        lines.append(f"  llama.cpp build: {build.kind}, because {build.reason}")
        lines.append("  to choose another: LLAMADA_BUILD=cpu|cuda|metal|rocm|vulkan|auto make setup")
    lines.append(f"  models: {config.models}")
    body = '{"model": "guide", "messages": [{"role": "user", "content": "What can you do?"}]}'
    where = "" if url == Address().url else f"OLLAMA_HOST={url.removeprefix('http://')} "
    lines.append(f"Talk to it:\n  {where}{me()} run guide\n  curl {url}/api/chat -d '{body}'")
    return "\n".join(lines)


def me() -> str:
    """How this command was called, as the user can type it again."""
    if shutil.which("llamada"):
        return "llamada"
    path = Path(sys.argv[0])
    if path.name != "llamada":
        return "python -m server"
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
