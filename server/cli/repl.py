"""The conversation of `llamada run`: reads what is typed, sends it with all that was said, prints the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import click

from server.cli import attachments
from server.cli.answer import print_answer
from server.cli.client import Client
from server.cli.errors import APIError
from server.cli.lines import CONTINUED, PROMPT, Composer, LineReader
from server.cli.run import finish
from server.cli.session import Session
from server.cli.slash import Slash
from server.cli.wrap import DEFAULT, GREY
from server.config import Config

HINT = "Send a message (/? for help)"
LEAVE = "\nUse Ctrl + d or /bye to exit."


class Reader(Protocol):
    def read(self, prompt: str) -> str: ...
    def keep_history(self, keep: bool) -> None: ...
    def close(self) -> None: ...


class Repl:
    def __init__(self, client: Client, session: Session, config: Config, reader: Reader | None = None) -> None:
        self._client = client
        self._session = session
        self._editor = config.editor
        self._reader = reader or LineReader(None if config.nohistory else config.data_dir / "history")
        self._slash = Slash(client, session, click.echo, self._reader.keep_history)

    def run(self, info: dict[str, Any]) -> None:
        """``info``: what `/api/show` says of the model."""
        self._load()
        self._session.loaded = info.get("messages") or []
        self._replay(self._session.loaded)
        click.echo(f"{GREY}{HINT}{DEFAULT}")
        try:
            self._loop()
        finally:
            self._reader.close()

    def _loop(self) -> None:
        composer = Composer()
        while True:
            try:
                line = self._reader.read(CONTINUED if composer.open else PROMPT)
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo(LEAVE)
                composer.reset()
                continue
            entry = composer.feed(line)
            try:
                if entry is not None and not self._take(entry.text, command=entry.command):
                    return
            except KeyboardInterrupt:  # between two answers, or in a command such as /load
                click.echo()

    def _take(self, text: str, *, command: bool) -> bool:
        """False to leave."""
        if command and (text == "/edit" or text.startswith("/edit ")):
            text = self._edit(text.removeprefix("/edit").strip())
        elif command and text.startswith("/") and not self._names_file(text):
            return self._slash.run(text)
        if text.strip():
            self._ask(text)
        return True

    def _names_file(self, text: str) -> bool:
        return self._session.multimodal and bool(attachments.PATH.match(text))

    def _edit(self, text: str) -> str:
        """The editor of OLLAMA_EDITOR, else the one click finds (VISUAL, EDITOR)."""
        try:
            return (click.edit(text, editor=self._editor or None, extension=".md") or "").strip()
        except click.ClickException as error:
            click.echo(f"error: {error.format_message()}")
            return ""

    def _ask(self, text: str) -> None:
        session = self._session
        images: list[str] = []
        if session.multimodal:
            text, images, lines = attachments.extract(text)
            for line in lines:
                click.echo(line)
        session.say(text, images)
        try:
            pieces = self._client.stream("/api/chat", session.chat_body())
            answer = print_answer(pieces, wordwrap=session.wordwrap, hide_thinking=session.hide_thinking)
        except APIError as error:
            session.messages.pop()
            click.echo(f"error: {error}")
            return
        session.heard(answer)
        finish(session, answer, newline=True)

    def _load(self) -> None:
        """Into memory, so that the first answer does not wait for it."""
        with spinner("loading the model"):
            self._client.post("/api/generate", self._session.common() | {"stream": False})

    def _replay(self, messages: list[dict[str, Any]]) -> None:
        """The MESSAGE lines of a model are the beginning of the conversation; the server adds them to none of ours."""
        show: dict[str, Callable[[str], None]] = {
            "user": lambda text: click.echo(f"{PROMPT}{text}"),
            "assistant": lambda text: click.echo(f"{text}\n"),
        }
        for message in messages:
            if message["role"] in show:
                show[message["role"]](message["content"])


def spinner(text: str) -> Any:
    from rich.console import Console

    return Console(stderr=True).status(text)
