"""`list`, `cp` and `rm`: the models on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from server.cli.client import Client
from server.cli.context import connect, echo_json, json_flag
from server.cli.errors import APIError
from server.cli.words import human_bytes, human_time, parse_time, table


@click.command("list")
@click.argument("prefix", default="")
@json_flag
def list_command(prefix: str, as_json: bool) -> None:
    """List the models on disk, or those whose names begin with PREFIX."""
    answer = connect().get("/api/tags")
    models = [m for m in answer.get("models") or () if str(m["name"]).lower().startswith(prefix.lower())]
    if as_json:
        echo_json({"models": models})
        return
    now = datetime.now(UTC)
    click.echo(table(["NAME", "ID", "SIZE", "MODIFIED"], [row(model, now) for model in models]), nl=False)


def row(model: dict[str, Any], now: datetime) -> list[str]:
    size = "-" if model.get("remote_model") else human_bytes(int(model["size"]))
    return [model["name"], str(model["digest"])[:12], size, human_time(parse_time(model["modified_at"]), now)]


@click.command("cp")
@click.argument("source")
@click.argument("destination")
@json_flag
def cp_command(source: str, destination: str, as_json: bool) -> None:
    """Copy the model SOURCE under the name DESTINATION; no bytes are copied."""
    connect().post("/api/copy", {"source": source, "destination": destination})
    if as_json:
        echo_json({"source": source, "destination": destination})
    else:
        click.echo(f"copied '{source}' to '{destination}'")


@click.command("rm")
@click.argument("models", nargs=-1, required=True)
@json_flag
def rm_command(models: tuple[str, ...], as_json: bool) -> None:
    """Remove MODELS from memory and from disk."""
    client = connect()
    for model in models:
        unload(client, model)
        client.delete("/api/delete", {"model": model})
        if not as_json:
            click.echo(f"deleted '{model}'")
    if as_json:
        echo_json({"deleted": list(models)})


def unload(client: Client, model: str) -> bool:
    """False when there is no such model."""
    try:
        client.post("/api/generate", {"model": model, "keep_alive": 0, "stream": False})
    except APIError as error:
        if error.status == 404:
            return False
        raise
    return True
