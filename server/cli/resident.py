"""`ps` and `stop`: the models in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from server.cli.context import connect, echo_json, json_flag
from server.cli.errors import CliError
from server.cli.library import unload
from server.cli.words import human_bytes, human_time, parse_time, processor, table


@click.command("ps")
@click.argument("prefix", default="")
@json_flag
def ps_command(prefix: str, as_json: bool) -> None:
    """List the models in memory, or those whose names begin with PREFIX."""
    answer = connect().get("/api/ps")
    models = [m for m in answer.get("models") or () if str(m["name"]).startswith(prefix)]
    if as_json:
        echo_json({"models": models})
        return
    now = datetime.now(UTC)
    header = ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    click.echo(table(header, [row(model, now) for model in models]), nl=False)


def row(model: dict[str, Any], now: datetime) -> list[str]:
    size, vram = int(model["size"]), int(model.get("size_vram") or 0)
    context = str(model.get("context_length") or "")
    identity = str(model["digest"])[:12]
    return [model["name"], identity, human_bytes(size), processor(size, vram), context, until(model["expires_at"], now)]


def until(text: str, now: datetime) -> str:
    """A model to be unloaded, but still busy, has a time in the past."""
    moment = parse_time(text)
    if moment is not None and moment.year > 1 and moment < now:
        return "Stopping..."
    return human_time(moment, now)


@click.command("stop")
@click.argument("model")
@json_flag
def stop_command(model: str, as_json: bool) -> None:
    """Take MODEL out of memory."""
    if not unload(connect(), model):
        raise CliError(f'couldn\'t find model "{model}" to stop')
    if as_json:
        echo_json({"stopped": model})
