"""What every verb needs: the settings, the client they point to, and the `--json` flag."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from server.cli.client import Client
from server.config import Config

F = TypeVar("F", bound=Callable[..., Any])


def connect() -> Client:
    """To the server at OLLAMA_HOST."""
    return Client(Config.load().host)


def json_flag(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON")(command)


def echo_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
