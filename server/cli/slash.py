"""The commands that begin with a slash inside a conversation: each changes the session or prints something."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from server.cli import helptexts, library, show
from server.cli.client import Client
from server.cli.errors import APIError, CliError
from server.cli.parameters import from_text
from server.cli.session import Session
from server.cli.words import table

Write = Callable[[str], None]
THINK_LEVELS = ("low", "medium", "high", "max")
SHOWN_PARTS = {
    "license": "No license was specified for this model.",
    "system": "No system message was specified for this model.",
    "template": "No prompt template was specified for this model.",
}


class Slash:
    """``write`` takes whole lines without their end. ``keep_history`` is told of `/set history`."""

    def __init__(self, client: Client, session: Session, write: Write, keep_history: Callable[[bool], None]) -> None:
        self._client = client
        self._session = session
        self._write = write
        self._keep_history = keep_history

    def run(self, line: str) -> bool:
        """False to leave the conversation."""
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word in ("/bye", "/exit"):
            return False
        known: dict[str, Callable[[str], None]] = {
            "/set": self.set,
            "/show": self.show,
            "/load": self.load,
            "/save": self.save,
            "/clear": self.clear,
            "/list": self.list,
            "/?": self.help,
            "/help": self.help,
        }
        if word not in known:
            self._write(f"Unknown command '{word}'. Type /? for help")
            return True
        try:
            known[word](rest)
        except APIError as error:
            self._write(f"error: {error}")
        return True

    def help(self, topic: str) -> None:
        text = helptexts.TOPICS.get(topic.split(" ")[0], "")
        if not text:
            text = helptexts.COMMANDS + (helptexts.FILES if self._session.multimodal else "")
        self._write(text)

    def list(self, prefix: str) -> None:
        models = self._client.get("/api/tags").get("models") or ()
        now = datetime.now(UTC)
        rows = [library.row(m, now) for m in models if m["name"].lower().startswith(prefix.lower())]
        self._write(table(["NAME", "ID", "SIZE", "MODIFIED"], rows).rstrip("\n"))

    def clear(self, _: str) -> None:
        self._session.clear()
        self._write("Cleared session context")

    def load(self, name: str) -> None:
        if not name or " " in name:
            self._write("Usage:\n  /load <modelname>")
            return
        self._write(f"Loading model '{name}'")
        try:
            info = self._client.post("/api/show", {"model": name})
        except APIError as error:
            self._write(f"Couldn't find model '{name}'" if error.status == 404 else f"error: {error}")
            return
        session = self._session
        session.model, session.capabilities = name, frozenset(info.get("capabilities") or ())
        session.messages, session.options, session.system = [], {}, ""
        session.loaded = info.get("messages") or []
        session.think = True if "thinking" in session.capabilities else None
        self._client.post("/api/generate", session.common() | {"stream": False})

    def save(self, name: str) -> None:
        if not name or " " in name:
            self._write("Usage:\n  /save <modelname>")
            return
        try:
            self._client.post("/api/create", self._session.save_body(name) | {"stream": False})
        except APIError as error:
            invalid = "invalid model name" in str(error)
            self._write(f"error: The model name '{name}' is invalid" if invalid else f"error: {error}")
            return
        self._write(f"Created new model '{name}'")

    # -- /set -------------------------------------------------------------------------------------------

    def set(self, rest: str) -> None:
        word, _, value = rest.partition(" ")
        value = value.strip()
        session = self._session
        if not word:
            self._write(helptexts.SET)
        elif word in ("history", "nohistory"):
            self._keep_history(word == "history")
        elif word in ("wordwrap", "nowordwrap"):
            session.wordwrap = word == "wordwrap"
            self._write(f"Set '{word}' mode.")
        elif word in ("verbose", "quiet"):
            session.verbose = word == "verbose"
            self._write(f"Set '{word}' mode.")
        elif word in ("think", "nothink"):
            self._set_think(word, value)
        elif word == "format":
            self._set_format(value)
        elif word == "noformat":
            session.format = ""
            self._write("Disabled format.")
        elif word == "parameter":
            self._set_parameter(value)
        elif word == "system":
            self._set_system(value)
        else:
            self._write(f"Unknown command '/set {word}'. Type /? for help")

    def _set_think(self, word: str, level: str) -> None:
        if level and (word == "nothink" or level not in THINK_LEVELS):
            self._write(f"Unknown level '{level}'. Use one of {', '.join(THINK_LEVELS)}.")
            return
        self._session.think = (level or True) if word == "think" else False
        self._write(f"Set 'think' mode to '{level}'." if level else f"Set '{word}' mode.")
        if word == "think" and "thinking" not in self._session.capabilities:
            self._write(f'warning: model "{self._session.model}" does not support thinking output')

    def _set_format(self, value: str) -> None:
        if value != "json":
            self._write("Invalid or missing format. For 'json' mode use '/set format json'")
            return
        self._session.format = "json"
        self._write("Set format to 'json' mode.")

    def _set_parameter(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        values = words(rest)
        if not name or not values:
            self._write(helptexts.PARAMETERS)
            return
        try:
            self._session.options[name] = from_text(name, values)
        except CliError as error:
            self._write(f"Couldn't set parameter: {error}")
            return
        self._write(f"Set parameter '{name}' to '{', '.join(values)}'")

    def _set_system(self, text: str) -> None:
        if not text:
            self._write("Usage:\n  /set system <text>")
            return
        quoted = len(text) > 1 and text[0] == text[-1] == '"'
        self._session.set_system(text[1:-1] if quoted else text)
        self._write("Set system message.")

    # -- /show ------------------------------------------------------------------------------------------

    def show(self, part: str) -> None:
        if part not in ("info", "license", "modelfile", "parameters", "system", "template"):
            self._write(f"Unknown command '/show {part}'. Type /? for help" if part else helptexts.SHOW)
            return
        session = self._session
        body: dict[str, Any] = {"model": session.model, "options": session.options}
        answer = self._client.post("/api/show", body | ({"system": session.system} if session.system else {}))
        if part == "info":
            self._write(show.render(answer).rstrip("\n"))
        elif part == "modelfile":
            self._write(answer.get("modelfile", ""))
        elif part == "parameters":
            self._show_parameters(self._client.post("/api/show", {"model": session.model}).get("parameters") or "")
        else:
            text = session.system if part == "system" and session.system else answer.get(part)
            self._write(text or SHOWN_PARTS[part])

    def _show_parameters(self, of_model: str) -> None:
        self._write("Model defined parameters:")
        self._write("\n".join(f"  {line}" for line in of_model.splitlines()) or "  none")
        self._write("\nUser defined parameters:")
        given = self._session.options.items()
        self._write("\n".join(f"  {name:<30} {value}" for name, value in given) or "  none")


def words(text: str) -> list[str]:
    """Split at blanks; quotes hold a value together."""
    try:
        return shlex.split(text)
    except ValueError:  # an odd quote: as it stands
        return text.split()
