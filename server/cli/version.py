"""Which version is installed here, and which one answers at OLLAMA_HOST."""

from __future__ import annotations

from functools import cache

import click

from server.cli.context import connect
from server.cli.errors import CliError


@cache
def installed() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("llamada")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "0.0.0"


def print_versions() -> None:
    try:
        answer = connect().get("/api/version")
    except CliError:
        click.echo(f"llamada version is {installed()}")
        click.echo("Warning: could not connect to a running llamada or Ollama instance")
        return
    served = str(answer.get("llamada", ""))
    click.echo(f"llamada version is {served or installed()}")
    if served:
        click.echo(f"emulated Ollama version is {answer.get('version', '')}")
    if served and served != installed():
        click.echo(f"Warning: client version is {installed()}")
    if not served:
        click.echo(f"Warning: what answers at OLLAMA_HOST is not llamada but Ollama {answer.get('version', '')}")
