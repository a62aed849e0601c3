"""The body of ``/v1/responses`` and its way into our types."""

from __future__ import annotations

from typing import Any

from server.api.decode import ANY, BOOL, FLOAT, INT, OBJECT, STRING, Struct, Where, list_of
from server.api.extras import EXTRAS, merged_options, refuse, refused
from server.api.openai_requests import check_verbosity, effort_of, json_schema, tool_choice
from server.api.requests import MAX_TOOLS, TOOL, check_images, check_top_logprobs
from server.api.requests import tools as in_order
from server.errors import InvalidRequest
from server.types import ChatRequest, Format, Message

REFUSED = {
    "background": "keep the connection open, with stream",
    "conversation": "give previous_response_id, or the conversation's items as input",
    "prompt": "no prompts are stored here: give instructions and input",
    "context_management": "send the items that are to be seen",
    "moderation": "answers are not moderated",
}
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"

REASONING = Struct("Reasoning", {"effort": STRING, "summary": STRING}, kind="openai.Reasoning", own=True)
TEXT = Struct("Text", {"format": OBJECT, "verbosity": STRING}, kind="openai.ResponsesText", own=True)
RESPONSE = Struct(
    "ResponsesRequest",
    {
        "model": STRING,
        "input": ANY,
        "instructions": STRING,
        "previous_response_id": STRING,
        "store": BOOL,
        "stream": BOOL,
        "max_output_tokens": INT,
        "temperature": FLOAT,
        "top_p": FLOAT,
        "top_logprobs": INT,
        "include": list_of(STRING, "[]string"),
        "reasoning": REASONING,
        "text": TEXT,
        "tools": list_of(OBJECT, "[]openai.ResponsesTool", most=MAX_TOOLS),
        "tool_choice": ANY,
        "parallel_tool_calls": BOOL,
        "truncation": STRING,
        "metadata": OBJECT,
        "user": STRING,
        **EXTRAS,
        **refused(REFUSED),
    },
    kind="openai.ResponsesRequest",
)


def chat_request(fields: dict[str, Any], conversation: tuple[Message, ...]) -> ChatRequest:
    """``conversation``: what was kept of the earlier turns and the new messages; ``instructions`` go before it."""
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    refuse(fields, REFUSED)
    check_top_logprobs(fields)
    check_images([image for message in conversation for image in message.images])
    told = fields.get("instructions")
    whole = _may_cut(fields.get("truncation"))
    return ChatRequest(
        fields["model"],
        ((Message("system", told),) if told else ()) + conversation,
        tools=_tools(fields.get("tools", [])),
        tool_choice=tool_choice(fields),
        format=_format(fields.get("text", {})),
        think=effort_of(fields.get("reasoning", {}).get("effort")),
        options=_options(fields),
        keep_alive=fields.get("keep_alive"),
        truncate=whole,
        shift=whole,
        logprobs=LOGPROBS in fields.get("include", ()) or fields.get("top_logprobs", 0) > 0,
        top_logprobs=fields.get("top_logprobs", 0),
    )


def _options(fields: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's defaults stand above the model's own, as for chats."""
    most = fields.get("max_output_tokens")
    if most is not None and most <= 0:
        raise InvalidRequest("max_output_tokens must be positive")
    named = {"temperature": fields.get("temperature"), "top_p": fields.get("top_p"), "num_predict": most}
    return merged_options(fields, named, {"temperature": 1.0, "top_p": 1.0})


def _may_cut(truncation: str | None) -> bool:
    """Not given: as everywhere else here, what does not fit is cut, and the log says so."""
    if truncation not in (None, "auto", "disabled"):
        raise InvalidRequest('truncation must be "auto" or "disabled"')
    return truncation != "disabled"


def _format(text: dict[str, Any]) -> Format:
    check_verbosity(text.get("verbosity"), "text.verbosity")
    given = text.get("format", {})
    match given.get("type"):
        case None | "text":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            return json_schema(given.get("schema"), "text.format.schema")
    raise InvalidRequest('text.format.type must be "text", "json_object" or "json_schema"')


def _tools(given: list[dict[str, Any] | None]) -> tuple[dict[str, Any], ...]:
    return in_order([_tool(tool or {}, f"tools[{index}]") for index, tool in enumerate(given)])


def _tool(given: dict[str, Any], where: str) -> dict[str, Any]:
    if given.get("type") != "function":
        raise InvalidRequest(f'{where}: type "{given.get("type")}" is not supported: only functions are')
    name = given.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}.name is required")
    function = {"name": name, "description": given.get("description") or "", "parameters": given.get("parameters")}
    return TOOL({"type": "function", "function": function}, Where("Tool"))
