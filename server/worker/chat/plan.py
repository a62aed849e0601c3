"""How an answer may call tools: the format, the tools, and from where on a grammar holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from server.types import ToolChoice
from server.worker.chat.formats.grammar import Spell, tool_grammar
from server.worker.chat.formats.row import ToolFormat
from server.worker.chat.formats.schemas import schemas_of
from server.worker.chat.formats.trigger import Trigger, trigger

Tokenize = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class CallPlan:
    """``answer``: the answer may be JSON of this schema in place of calls. ``begun``: the prompt ends with it."""

    row: ToolFormat
    tools: tuple[dict[str, Any], ...]
    choice: ToolChoice
    answer: dict[str, Any] | None = None
    begun: str = ""

    @property
    def lazy(self) -> bool:
        """The model writes what it likes until it begins a call."""
        return self.choice.kind == "auto" and self.answer is None

    def grammar(self, spell: Spell) -> str:
        tools = [tool for tool in self.tools if self.choice.name in ("", tool["function"]["name"])]
        return tool_grammar(self.row, tools, parallel=self.choice.parallel, spell=spell, answer=self.answer)

    def trigger(self) -> Trigger:
        return trigger(self.row, schemas_of(self.tools))
