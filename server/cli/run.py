"""`run`: one answer for a prompt, a pipe or an embedding; without a prompt, a conversation."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from server.cli import attachments
from server.cli.answer import Answer, print_answer, statistics
from server.cli.client import Client
from server.cli.context import echo_json, json_flag
from server.cli.errors import APIError, CliError
from server.cli.private import reachable
from server.cli.session import Session
from server.config import Config
from server.config import keep_alive as parse_keep_alive

THINK_LEVELS = ("high", "medium", "low", "max")
ALONE = ("--think", "--truncate")


class RunCommand(click.Command):
    """A flag alone means true: it never takes the word after it, which is the prompt."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"{arg}=true" if arg in ALONE else arg for arg in args])


@click.command("run", cls=RunCommand)
@click.argument("model")
@click.argument("prompt", nargs=-1)
@click.option("--format", "format_text", default="", help="`json`, or a JSON schema")
@click.option("--keepalive", default=None, help="How long the model stays in memory (5m, 300, -1)")
@click.option("--insecure", is_flag=True, help="Pull over http, where the model is not there yet")
@click.option("--nowordwrap", is_flag=True, help="Do not wrap words")
@click.option("--verbose", is_flag=True, help="Statistics after each answer")
@click.option("--think", default=None, metavar="[=true|false|high|medium|low|max]", help="Let the model think first")
@click.option("--hidethinking", is_flag=True, help="Do not print the thinking")
@click.option("--truncate", type=bool, default=None, help="Embeddings: cut long input (default true)")
@click.option("--dimensions", type=click.IntRange(1), default=None, help="Embeddings: how many numbers")
@json_flag
def run_command(model: str, prompt: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Talk to MODEL, or let it answer PROMPT (and what is piped in, which comes first)."""
    config = Config.load()
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    text = " ".join(([piped] if piped else []) + list(prompt))
    with reachable(config) as client:
        info = describe(client, model, insecure=flags["insecure"])
        session = make_session(model, info, flags)
        if "embedding" in session.capabilities and "completion" not in session.capabilities:
            embed(client, session, text, flags)
        elif text or as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            one_shot(client, session, text, as_json=as_json)
        else:
            from server.cli.repl import Repl

            Repl(client, session, config).run(info)


def describe(client: Client, model: str, *, insecure: bool = False) -> dict[str, Any]:
    """What is known of the model; one that is not there is pulled first, as Ollama does."""
    try:
        return client.post("/api/show", {"model": model})
    except APIError as error:
        if error.status != 404:
            raise
    from server.cli.registry import pull

    try:
        pull(client, model, insecure=insecure)
    except APIError as error:
        hint = f"see `llamada list`, or make it: `llamada create {model} -f MODEL.gguf`"
        raise CliError(f"{error}\nmodel '{model}' is not on this machine; {hint}") from error
    return client.post("/api/show", {"model": model})


def make_session(model: str, info: dict[str, Any], flags: dict[str, Any]) -> Session:
    session = Session(model, frozenset(info.get("capabilities") or ()))
    session.format = parse_format(flags["format_text"])
    session.think = parse_think(flags["think"])
    session.verbose, session.hide_thinking = flags["verbose"], flags["hidethinking"]
    session.wordwrap = not flags["nowordwrap"]
    if flags["keepalive"] is not None:
        try:
            parse_keep_alive(flags["keepalive"])
        except ValueError as error:
            raise CliError(f"--keepalive: {error}") from error
        session.keep_alive = flags["keepalive"]
    if session.think and "thinking" not in session.capabilities:
        click.echo(f'warning: model "{model}" does not support thinking output', err=True)
        session.think = None
    if session.think is None and "thinking" in session.capabilities:
        session.think = True
    return session


def parse_think(text: str | None) -> bool | str | None:
    if text is None:
        return None
    known: dict[str, bool | str] = {"true": True, "": True, "false": False} | {level: level for level in THINK_LEVELS}
    if text not in known:
        raise CliError(f'invalid value for --think: "{text}" (must be true, false, high, medium, low, or max)')
    return known[text]


def parse_format(text: str) -> str | dict[str, Any]:
    """`json` as a word; anything else is a schema."""
    if text in ("", "json"):
        return text
    try:
        schema = json.loads(text)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise CliError("--format takes json or a JSON schema")
    return schema


def embed(client: Client, session: Session, text: str, flags: dict[str, Any]) -> None:
    if not text:
        raise CliError(f'embedding models require input text. Usage: llamada run {session.model} "your text here"')
    body: dict[str, Any] = {"model": session.model, "input": text}
    given = {"truncate": flags["truncate"], "dimensions": flags["dimensions"], "keep_alive": session.keep_alive}
    answer = client.post("/api/embed", body | {name: value for name, value in given.items() if value is not None})
    click.echo(json.dumps(answer["embeddings"][0]))


def one_shot(client: Client, session: Session, text: str, *, as_json: bool) -> None:
    images: list[str] = []
    if session.multimodal:
        text, images, lines = attachments.extract(text)
        for line in lines:
            click.echo(line, err=True)
    body = session.generate_body(text, images)
    if as_json:
        echo_json(client.post("/api/generate", body | {"stream": False}))
        return
    answer = print_answer(
        client.stream("/api/generate", body), wordwrap=session.wordwrap, hide_thinking=session.hide_thinking
    )
    finish(session, answer, newline=bool(text))
    if answer.interrupted:
        raise KeyboardInterrupt


def finish(session: Session, answer: Answer, *, newline: bool) -> None:
    """An empty line after an answer, and its statistics."""
    if newline:
        click.echo("\n")
    if session.verbose and answer.final:
        click.echo(statistics(answer.final), err=True, nl=False)
