"""`pull` and `push`: not in this release; says what to do instead."""

from __future__ import annotations

import click

from server.cli.errors import CliError

INSTEAD = "Until then: `llamada create NAME -f MODEL.gguf`, or set OLLAMA_MODELS to an Ollama models directory"


@click.command("pull")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Use http")
def pull_command(model: str, insecure: bool) -> None:
    """Fetch MODEL from a registry (with the next release)."""
    raise CliError(f"cannot pull {model}: registries come with the next release. {INSTEAD}")


@click.command("push")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Use http")
def push_command(model: str, insecure: bool) -> None:
    """Send MODEL to a registry (with the next release)."""
    raise CliError(f"cannot push {model}: registries come with the next release")
