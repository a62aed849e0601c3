"""`pull` and `push`: models from and to a registry, with a bar for each of their files."""

from __future__ import annotations

import json
from typing import Any

import click

from server.cli.client import Client
from server.cli.context import connect, json_flag
from server.cli.errors import APIError, CliError
from server.cli.progress import progress

DENIED = "you are not authorized to push to this namespace, create the model under a namespace you own"


@click.command("pull")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Use http, for a registry that LLAMADA_REGISTRIES lists")
@json_flag
def pull_command(model: str, insecure: bool, as_json: bool) -> None:
    """Fetch MODEL from a registry: a name of ollama.com, hf.co/USER/REPO:QUANT, or HOST/NAMESPACE/MODEL:TAG.

    What was fetched when it breaks off stays for the next try. With --json every progress object is a line.
    """
    pull(connect(), model, insecure=insecure, as_json=as_json)


@click.command("push")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Use http, for a registry that LLAMADA_REGISTRIES lists")
@json_flag
def push_command(model: str, insecure: bool, as_json: bool) -> None:
    """Send MODEL to the registry of its name. With --json every progress object is a line."""
    try:
        follow(connect(), "/api/push", {"model": model, "insecure": insecure}, as_json=as_json)
    except APIError as error:
        raise CliError(DENIED) if "access denied" in str(error) else error from error


def pull(client: Client, model: str, *, insecure: bool = False, as_json: bool = False) -> None:
    follow(client, "/api/pull", {"model": model, "insecure": insecure}, as_json=as_json)


def follow(client: Client, path: str, body: dict[str, Any], *, as_json: bool) -> None:
    """Show a stream of progress objects to its end. CliError when that was no success."""
    succeeded = False
    with progress() as bars:
        for piece in client.stream(path, body):
            succeeded = piece.get("status") == "success"
            if as_json:
                click.echo(json.dumps(piece))
            bars.follow(piece)
    if not succeeded:
        raise CliError("the server ended before all was done; the same command goes on where it stopped")
