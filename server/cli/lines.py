"""Lines typed at the prompt: readline's editing and a history file, and messages of several lines."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PROMPT = ">>> "
CONTINUED = "... "
QUOTES = '"""'
SYSTEM = "/set system "
HISTORY_LINES = 500
EDIT_KEY = r'"\C-g": "\C-a/edit \C-m"'
EDIT_KEY_LIBEDIT = r'bind -s "^G" "^A/edit ^M"'


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished message. ``command``: it may begin with a slash command (what stood in quotes may not)."""

    text: str
    command: bool


class Composer:
    """Joins lines between `\"\"\"` into one message."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._prefix = ""
        self.open = False

    def feed(self, line: str) -> Entry | None:
        """The message that this line completes, or None while more is to come."""
        if not self.open:
            prefix = SYSTEM if line.startswith(SYSTEM + QUOTES) else ""
            if not line.startswith(prefix + QUOTES):
                return Entry(line, command=True)
            self._prefix, self.open = prefix, True
            line = line.removeprefix(prefix + QUOTES)
        if not line.rstrip().endswith(QUOTES):
            self._lines.append(line)
            return None
        text = "\n".join([*self._lines, line.rstrip().removesuffix(QUOTES)])
        entry = Entry(self._prefix + text, command=bool(self._prefix))
        self.reset()
        return entry

    def reset(self) -> None:
        self._lines, self._prefix, self.open = [], "", False


class LineReader:
    """`input` with editing. EOFError on Ctrl-D, KeyboardInterrupt on Ctrl-C."""

    def __init__(self, history: Path | None) -> None:
        """``history`` None = keep none."""
        self._history = history
        self._readline = load_readline()
        if self._readline is None:
            return
        libedit = "libedit" in (self._readline.__doc__ or "")
        self._readline.parse_and_bind(EDIT_KEY_LIBEDIT if libedit else EDIT_KEY)
        self._readline.set_auto_history(history is not None)
        if history is not None:
            with suppress(OSError):
                self._readline.read_history_file(history)

    def read(self, prompt: str) -> str:
        return input(prompt)

    def keep_history(self, keep: bool) -> None:
        if self._readline is not None:
            self._readline.set_auto_history(keep)

    def close(self) -> None:
        """Write the history, for its owner's eyes only. A disk that refuses does not spoil the farewell."""
        if self._readline is None or self._history is None:
            return
        self._readline.set_history_length(HISTORY_LINES)
        with suppress(OSError):
            self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._history, os.O_CREAT | os.O_WRONLY, 0o600))
            self._readline.write_history_file(self._history)


def load_readline() -> ModuleType | None:
    """Some Pythons are built without it; lines are then read without editing."""
    try:
        import readline
    except ImportError:
        return None
    return readline
