"""The command `llamada`: its verbs, each in a module that is imported when the verb is called.

Help is written from the table below, so that `llamada --help` imports nothing but click.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from server.cli.errors import CliError
from server.config import ConfigError

# verb → (module under server.cli, one line of help); a module has one click command per verb, named alike
VERBS = {
    "serve": ("serve", "Start the server"),
    "create": ("create", "Create a model from a Modelfile or a GGUF"),
    "show": ("show", "Show what is known of a model"),
    "run": ("run", "Talk to a model, or answer one prompt"),
    "stop": ("resident", "Take a model out of memory"),
    "pull": ("registry", "Fetch a model from a registry"),
    "push": ("registry", "Send a model to a registry"),
    "export": ("carry", "Write models to a tar or a folder, without a server"),
    "import": ("carry", "Install what export wrote, or GGUF files, without a server"),
    "prune": ("carry", "Remove files that no model needs"),
    "list": ("library", "List the models on disk"),
    "ps": ("resident", "List the models in memory"),
    "cp": ("library", "Copy a model under another name"),
    "rm": ("library", "Remove models"),
    "bench": ("bench", "Measure how fast a served model answers"),
    "doctor": ("doctor", "Check this machine and installation"),
    "fsck": ("fsck", "Check the models on disk, with or without a server"),
}
ALIASES = {"start": "serve", "ls": "list"}


class Verbs(click.Group):
    """A group whose commands are imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = ALIASES.get(cmd_name, cmd_name)
        if verb not in VERBS:
            return None
        command = getattr(import_module(f"server.cli.{VERBS[verb][0]}"), f"{verb}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and args[0] not in ALIASES and not args[0].startswith("-"):
            raise CliError(f'unknown command "{args[0]}" for "llamada"; see `llamada --help`')
        return super().resolve_command(ctx, args)


def print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from server.cli.version import print_versions

    print_versions()
    ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-v", "--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version, help="Show versions"
)
def llamada() -> None:
    """An Ollama-compatible inference server that you can teach.

    Commands talk to the server at OLLAMA_HOST (default http://127.0.0.1:11434). Most take --json.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Every failure is one `Error: …` on stderr."""
    try:
        result: Any = llamada.main(
            args=None if arguments is None else list(arguments), prog_name="llamada", standalone_mode=False
        )
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        fail(error.format_message())
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except ConfigError as error:
        fail("bad settings\n" + "\n".join(f"  {problem}" for problem in error.problems))
        return 1
    except CliError as error:
        fail(str(error))
        return 1
    except BrokenPipeError:  # `llamada list | head`
        sys.stderr.close()
        return 1


def fail(text: str) -> None:
    click.echo(f"Error: {text}", err=True)
