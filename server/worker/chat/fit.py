"""Makes a prompt fit into its window, as Ollama does it.

First the oldest messages go (never a system message, never the last one), as few as will do. A prompt that is
too long all the same keeps its first ``num_keep`` tokens and its end, such that about half the window is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.errors import InvalidRequest

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


class CannotRender(InvalidRequest):
    """The template refuses these messages; it may take others."""


@dataclass(frozen=True, slots=True)
class Rendered:
    text: str
    tokens: list[int]


Spelt = Mapping[str, Any]  # a message as ``modelfiles`` takes it
Render = Callable[[Sequence[Spelt]], Rendered]


def without_oldest(messages: Sequence[Spelt], count: int) -> list[Spelt]:
    """``messages`` less the first ``count``, of which system messages stay."""
    return [m for m in messages[:count] if m["role"] == "system"] + list(messages[count:])


def drop_oldest(messages: Sequence[Spelt], full: Rendered, render: Render, window: int) -> Rendered:
    """The rendering of as many of the newest ``messages`` as fit; of the last alone if nothing does.

    ``full`` renders all of them. Keeps one, two, four … messages until they are too many, then bisects, as fewer
    messages are shorter: what is rendered stays near the size of the window however long the conversation is.
    A number of messages that the template refuses (a conversation that begins with an answer, say) is passed
    over for the next smaller one.
    """
    fits, shortest = None, full
    low, high = 0, len(messages)  # dropping ``low`` is too few; dropping ``high`` or more is never needed
    keep = 1
    while high - low > 1:
        middle = max(len(messages) - keep, (low + high) // 2 if low else low + 1)
        keep *= 2
        count, rendered = _first_rendered(messages, render, middle, high)
        if rendered is None:
            high = middle
        elif len(rendered.tokens) <= window:
            fits, high = rendered, middle
        else:
            shortest, low = rendered, count
    return fits or shortest


def _first_rendered(messages: Sequence[Spelt], render: Render, start: int, end: int) -> tuple[int, Rendered | None]:
    for count in range(start, end):
        try:
            return count, render(without_oldest(messages, count))
        except CannotRender:
            continue
    return end, None


def cut_middle(tokens: list[int], window: int, num_keep: int, *, bos: bool, shift: bool) -> list[int]:
    """At most ``window`` tokens of ``tokens``; ``InvalidRequest`` if nothing may be cut."""
    if len(tokens) <= window:
        return tokens
    if not shift:
        raise InvalidRequest(TOO_LONG)
    wanted = len(tokens) if num_keep < 0 else num_keep + bos
    keep = max(min(wanted, window - 2), 0)
    size = max(window - max((window - keep) // 2, 1), 1)
    return tokens[:keep] + tokens[len(tokens) - (size - keep) :]
