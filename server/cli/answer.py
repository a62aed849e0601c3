"""Prints one streamed answer as it comes, and its statistics."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from server.cli.words import go_duration
from server.cli.wrap import AnswerText

STATISTICS_WIDTH = 22


@dataclass(slots=True)
class Answer:
    """What came; ``interrupted`` by Ctrl-C, then without ``final``."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    final: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False


def columns() -> int:
    """Of the terminal that answers are written to; 0 when it is none."""
    return shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0


def print_answer(pieces: Iterable[dict[str, Any]], *, wordwrap: bool = True, hide_thinking: bool = False) -> Answer:
    """Pieces of `/api/generate` or `/api/chat`. Ctrl-C ends it and with it the connection."""
    answer = Answer()
    text = AnswerText(columns() if wordwrap else 0, plain=not sys.stdout.isatty(), hide_thinking=hide_thinking)
    try:
        for piece in pieces:
            message = piece.get("message") or {"content": piece.get("response"), "thinking": piece.get("thinking")}
            content, thinking = message.get("content") or "", message.get("thinking") or ""
            answer.content += content
            answer.thinking += thinking
            answer.tool_calls += message.get("tool_calls") or ()
            out(text.feed(thinking, content))
            if piece.get("done"):
                answer.final = piece
    except KeyboardInterrupt:
        answer.interrupted = True
    out(text.close())
    return answer


def out(text: str) -> None:
    """At once, and as it is: `click.echo` would take escape codes out of an answer that goes into a pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()


def statistics(final: dict[str, Any]) -> str:
    """What `--verbose` adds; only what is known."""
    prompt, prompt_ns = final.get("prompt_eval_count", 0), final.get("prompt_eval_duration", 0)
    count, count_ns = final.get("eval_count", 0), final.get("eval_duration", 0)
    rows = [
        ("total duration", final.get("total_duration", 0), go_duration),
        ("load duration", final.get("load_duration", 0), go_duration),
        ("prompt eval count", prompt, lambda n: f"{n} token(s)"),
        ("prompt eval duration", prompt_ns, go_duration),
        ("prompt eval rate", prompt_ns, lambda ns: f"{prompt / ns * 1e9:.2f} tokens/s"),
        ("eval count", count, lambda n: f"{n} token(s)"),
        ("eval duration", count_ns, go_duration),
        ("eval rate", count_ns, lambda ns: f"{count / ns * 1e9:.2f} tokens/s"),
    ]
    return "".join(f"{name + ':':<{STATISTICS_WIDTH}}{show(value)}\n" for name, value, show in rows if value)
