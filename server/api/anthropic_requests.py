"""Anthropic's request bodies and their way into our types.

Fields that cannot change an answer (``metadata``, ``service_tier``, ``cache_control``, ``speed`` …) are not looked at.
"""

from __future__ import annotations

from typing import Any

from server.api.anthropic_messages import messages, system
from server.api.decode import ANY, BOOL, FLOAT, INT, OBJECT, STRING, Kind, Struct, Where, list_of
from server.api.extras import EXTRAS, merged_options, refuse, refused
from server.api.requests import MAX_MESSAGES, MAX_TOOLS, TOOL, check_images
from server.api.requests import tools as in_order
from server.errors import InvalidRequest
from server.types import ChatRequest, Format, Message, Think, ToolChoice

EFFORTS: dict[str, Think] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
REFUSED = {
    "container": "there are no containers here",
    "mcp_servers": "connect to MCP servers in the client, and give their tools as tools",
    "context_management": "send the messages that are to be seen",
}


def _struct(name: str, fields: dict[str, Kind | Struct]) -> Struct:
    return Struct(name, fields, kind=f"anthropic.{name}", own=True)


MESSAGE = _struct("MessageParam", {"role": STRING, "content": ANY})
THINKING = _struct("ThinkingConfig", {"type": STRING, "budget_tokens": INT, "display": STRING})
TOOL_CHOICE = _struct("ToolChoice", {"type": STRING, "name": STRING, "disable_parallel_tool_use": BOOL})
OUTPUT = _struct("OutputConfig", {"effort": STRING, "format": OBJECT})
_PROMPT: dict[str, Kind | Struct] = {
    "model": STRING,
    "messages": list_of(MESSAGE, "[]anthropic.MessageParam", most=MAX_MESSAGES),
    "system": ANY,
    "tools": list_of(OBJECT, "[]anthropic.Tool", most=MAX_TOOLS),
    "tool_choice": TOOL_CHOICE,
    "thinking": THINKING,
    "output_config": OUTPUT,
    **EXTRAS,
    **refused(REFUSED),
}
COUNT = Struct("CountTokensRequest", _PROMPT, kind="anthropic.CountTokensRequest")
MESSAGES = Struct(
    "MessagesRequest",
    _PROMPT
    | {
        "max_tokens": INT,
        "stream": BOOL,
        "temperature": FLOAT,
        "top_p": FLOAT,
        "top_k": INT,
        "stop_sequences": list_of(STRING, "[]string"),
    },
    kind="anthropic.MessagesRequest",
)


def chat_request(fields: dict[str, Any]) -> ChatRequest:
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    if fields.get("max_tokens", 0) <= 0:
        raise InvalidRequest("max_tokens is required and must be positive")
    return _request(fields)


def count_request(fields: dict[str, Any]) -> ChatRequest:
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    return _request(fields)


def _request(fields: dict[str, Any]) -> ChatRequest:
    refuse(fields, REFUSED)
    if not fields.get("messages"):
        raise InvalidRequest("messages is required")
    said = messages(fields["messages"])
    check_images([image for message in said for image in message.images])
    before = system(fields.get("system"))
    think, budget = _think(fields)
    return ChatRequest(
        fields["model"],
        ((Message("system", before),) if before else ()) + said,
        tools=_tools(fields.get("tools", [])),
        tool_choice=_tool_choice(fields.get("tool_choice", {})),
        format=_format(fields.get("output_config", {}).get("format")),
        think=think,
        options=merged_options(fields, _named(fields) | {"think_budget": budget}),
        keep_alive=fields.get("keep_alive"),
    )


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    found = {name: fields.get(name) for name in ("temperature", "top_p", "top_k")}
    return found | {"num_predict": fields.get("max_tokens"), "stop": stops(fields) or None}


def stops(fields: dict[str, Any]) -> list[str]:
    return [text for text in fields.get("stop_sequences", []) if text]


def shows_thinking(fields: dict[str, Any]) -> bool:
    """Whether thinking blocks are wanted in the answer."""
    display: str = fields.get("thinking", {}).get("display", "summarized")
    if display not in ("summarized", "omitted"):
        raise InvalidRequest('thinking.display must be "summarized" or "omitted"')
    return display != "omitted"


def _think(fields: dict[str, Any]) -> tuple[Think, int | None]:
    """How to think, and the bound on it. ``effort`` counts where ``thinking`` does not say more."""
    given, effort = fields.get("thinking", {}), fields.get("output_config", {}).get("effort")
    if effort and effort not in EFFORTS:
        raise InvalidRequest(f"output_config.effort must be one of {', '.join(EFFORTS)}")
    level = EFFORTS[effort] if effort else None
    match given.get("type"):
        case None:
            return level, None
        case "disabled":
            return False, None
        case "adaptive":
            return level or True, None
        case "enabled":
            return True, _budget(given)
    raise InvalidRequest('thinking.type must be "enabled", "disabled" or "adaptive"')


def _budget(given: dict[str, Any]) -> int | None:
    budget: int | None = given.get("budget_tokens")
    if budget is not None and budget <= 0:
        raise InvalidRequest("thinking.budget_tokens must be positive")
    return budget


def _tool_choice(given: dict[str, Any]) -> ToolChoice:
    parallel = not given.get("disable_parallel_tool_use", False)
    match given.get("type"):
        case None | "auto":
            return ToolChoice(parallel=parallel)
        case "none":
            return ToolChoice("none", parallel=parallel)
        case "any":
            return ToolChoice("required", parallel=parallel)
        case "tool" if given.get("name"):
            return ToolChoice("required", given["name"], parallel)
    raise InvalidRequest('tool_choice.type must be "auto", "none", "any", or "tool" with a name')


def _tools(given: list[dict[str, Any] | None]) -> tuple[dict[str, Any], ...]:
    return in_order([_tool(tool or {}, f"tools.{index}") for index, tool in enumerate(given)])


def _tool(given: dict[str, Any], where: str) -> dict[str, Any]:
    kind = given.get("type") or "custom"
    if kind != "custom":
        raise InvalidRequest(f'{where}: type "{kind}" is not supported: only tools with an input_schema are')
    if given.get("defer_loading"):
        raise InvalidRequest(f"{where}.defer_loading is not supported: give the tools that may be called")
    function = {"name": given.get("name"), "description": given.get("description") or ""}
    if not isinstance(function["name"], str) or not function["name"]:
        raise InvalidRequest(f"{where}.name is required")
    function["parameters"] = given.get("input_schema") or {}
    return TOOL({"type": "function", "function": function}, Where("Tool"))


def _format(given: dict[str, Any] | None) -> Format:
    if not given:
        return None
    schema = given.get("schema")
    if given.get("type") != "json_schema" or not isinstance(schema, dict):
        raise InvalidRequest('output_config.format must be {"type": "json_schema", "schema": {…}}')
    return schema
