"""The prompt that teaches a row to a model whose template does not show tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from server.types import ToolCall
from server.worker.chat.formats.render import render
from server.worker.chat.formats.row import ToolFormat


def tool_prompt(row: ToolFormat, tools: Sequence[Mapping[str, Any]]) -> str:
    """For the system message: the tools, one per line, and how a call is spelt."""
    shown = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    example = render(row, [ToolCall("NAME", {"PARAMETER": "VALUE"}, "a1b2c3d4e", 0)])
    return (
        f"You can call these tools; each line describes one, its parameters as a JSON schema:\n{shown}\n\n"
        f"To call a tool, answer with nothing but this, the words in capitals replaced:\n{example}"
    )
