"""OpenAI's request structs as Ollama's translator names them, and their way into our types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import orjson

from server.api.decode import ANY, BOOL, FLOAT, INT, OBJECT, STRING, Kind, Struct, list_of
from server.api.extras import EXTRAS, merged_options, refuse, refused
from server.api.openai_messages import messages
from server.api.requests import (
    MAX_INPUTS,
    MAX_MESSAGES,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    TOOL,
    check_images,
    check_top_logprobs,
    tools,
)
from server.errors import InvalidRequest
from server.types import ChatRequest, CompletionRequest, EmbedRequest, Format, Think, ToolChoice

EFFORTS: dict[str, Think] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}
VERBOSITY = "medium"
REFUSED = {
    "functions": "give them as tools",
    "audio": "answers are text",
    "web_search_options": "nothing is searched from here",
    "moderation": "answers are not moderated",
}
MAX_CHOICES = 64
Request = TypeVar("Request", ChatRequest, CompletionRequest)

FUNCTION = Struct("", {"name": STRING, "arguments": STRING})
CALL = Struct("ToolCall", {"id": STRING, "index": INT, "type": STRING, "function": FUNCTION}, own=True)
MESSAGE = Struct(
    "Message",
    {
        "role": STRING,
        "content": ANY,
        "reasoning": STRING,
        "tool_calls": list_of(CALL, "[]openai.ToolCall", most=MAX_TOOLS),
        "name": STRING,
        "tool_call_id": STRING,
    },
    kind="openai.Message",
    own=True,
)
STREAM_OPTIONS = Struct("StreamOptions", {"include_usage": BOOL}, kind="openai.StreamOptions", own=True)
_SHARED: dict[str, Kind | Struct] = {
    "model": STRING,
    "stream": BOOL,
    "stream_options": STREAM_OPTIONS,
    "max_tokens": INT,
    "seed": INT,
    "stop": ANY,
    "temperature": FLOAT,
    "frequency_penalty": FLOAT,
    "presence_penalty": FLOAT,
    "top_p": FLOAT,
    "n": INT,
    "logit_bias": OBJECT,
    **EXTRAS,
}
CHAT = Struct(
    "ChatCompletionRequest",
    _SHARED
    | {
        "messages": list_of(MESSAGE, "[]openai.Message", most=MAX_MESSAGES),
        "max_completion_tokens": INT,
        "response_format": Struct(
            "ResponseFormat",
            {"type": STRING, "json_schema": Struct("JsonSchema", {"schema": ANY}, kind="openai.JsonSchema", own=True)},
            kind="openai.ResponseFormat",
            own=True,
        ),
        "tools": list_of(TOOL, "[]api.Tool", most=MAX_TOOLS),
        "tool_choice": ANY,
        "parallel_tool_calls": BOOL,
        "modalities": list_of(STRING, "[]string"),
        "verbosity": STRING,
        **refused(REFUSED),
        "reasoning": Struct("Reasoning", {"effort": STRING}, kind="openai.Reasoning", own=True),
        "reasoning_effort": STRING,
        "logprobs": BOOL,
        "top_logprobs": INT,
        "_debug_render_only": BOOL,
    },
    kind="openai.ChatCompletionRequest",
)
COMPLETION = Struct(
    "CompletionRequest",
    _SHARED | {"prompt": STRING, "suffix": STRING, "logprobs": INT, "echo": BOOL, "best_of": INT},
    kind="openai.CompletionRequest",
)
EMBEDDING = Struct(
    "EmbedRequest",
    {"input": ANY, "model": STRING, "dimensions": INT, "encoding_format": STRING, **EXTRAS},
    kind="openai.EmbedRequest",
)


def chat_request(fields: dict[str, Any]) -> ChatRequest:
    if not fields.get("messages"):
        raise InvalidRequest("[] is too short - 'messages'")
    check_top_logprobs(fields)
    said = messages([message or {} for message in fields["messages"]])
    check_images([image for message in said for image in message.images])
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    refuse(fields, REFUSED)
    if any(kind != "text" for kind in fields.get("modalities", ())):
        raise InvalidRequest("modalities: only text is answered")
    check_verbosity(fields.get("verbosity"), "verbosity")
    return ChatRequest(
        fields["model"],
        tuple(said),
        tools=function_tools(fields.get("tools", ())),
        tool_choice=tool_choice(fields),
        format=_format(fields.get("response_format", {})),
        think=_think(fields),
        options=sampling_options(fields),
        keep_alive=fields.get("keep_alive"),
        logprobs=fields.get("logprobs", False),
        top_logprobs=fields.get("top_logprobs", 0),
        render_only=fields.get("_debug_render_only", False),
    )


def completion_request(fields: dict[str, Any]) -> CompletionRequest:
    logprobs = fields.get("logprobs")
    if logprobs is not None and not 0 <= logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(f"logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    if logprobs is not None and fields.get("echo"):
        raise InvalidRequest("logprobs with echo are not supported: those of a prompt are not computed")
    if fields.get("best_of", 1) not in (1, choices(fields)):
        raise InvalidRequest("best_of is not supported: ask for n answers, and choose among them")
    return CompletionRequest(
        fields.get("model", ""),
        fields.get("prompt", ""),
        suffix=fields.get("suffix", ""),
        options=sampling_options(fields),
        keep_alive=fields.get("keep_alive"),
        logprobs=logprobs is not None,
        top_logprobs=logprobs or 0,
    )


def choices(fields: dict[str, Any]) -> int:
    """How many answers are wanted."""
    wanted: int = fields.get("n", 1)
    if not 1 <= wanted <= MAX_CHOICES:
        raise InvalidRequest(f"n must be between 1 and {MAX_CHOICES}")
    return wanted


def variants(request: Request, count: int) -> list[Request]:
    """The same request ``count`` times; where a seed was given, each has one of its own that follows from it."""
    seed = request.options.get("seed", -1)
    if seed == -1 or count == 1:
        return [request] * count
    step = 1 if 0 <= seed < 2**62 else -1
    return [replace(request, options={**request.options, "seed": seed + step * index}) for index in range(count)]


def sampling_options(fields: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's defaults for temperature and top_p stand above the model's own parameters, as in Ollama."""
    names = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "logit_bias")
    named = {name: fields.get(name) for name in names}
    named["num_predict"] = fields.get("max_completion_tokens", fields.get("max_tokens"))
    stop = fields.get("stop")
    named["stop"] = [stop] if isinstance(stop, str) else stop
    return merged_options(fields, named, {"temperature": 1.0, "top_p": 1.0})


def function_tools(given: Any) -> tuple[dict[str, Any], ...]:
    for index, tool in enumerate(given):
        kind = (tool or {}).get("type", "function")
        if kind != "function":
            raise InvalidRequest(f'tools[{index}]: type "{kind}" is not supported: only functions are')
    return tools(given)


def tool_choice(fields: dict[str, Any]) -> ToolChoice:
    """From OpenAI's ``tool_choice`` and ``parallel_tool_calls``."""
    given, parallel = fields.get("tool_choice"), fields.get("parallel_tool_calls", True)
    match given:
        case None | "auto":
            return ToolChoice(parallel=parallel)
        case "none":
            return ToolChoice("none", parallel=parallel)
        case "required":
            return ToolChoice("required", parallel=parallel)
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)} if name:
            return ToolChoice("required", name, parallel)
    raise InvalidRequest('tool_choice must be "auto", "none", "required", or name a function')


def check_verbosity(given: str | None, where: str) -> None:
    if given not in (None, VERBOSITY):
        raise InvalidRequest(f"{where} is not supported: say in the prompt how long the answer should be")


def _format(given: dict[str, Any]) -> Format:
    kind = given.get("type", "").lower().strip()
    match kind:
        case "" | "text":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            return json_schema(given.get("json_schema", {}).get("schema"), "response_format.json_schema.schema")
    raise InvalidRequest(f'response_format.type must be "text", "json_object" or "json_schema", not "{kind}"')


def json_schema(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidRequest(f"{where} must be a JSON schema object")
    return given


def _think(fields: dict[str, Any]) -> Think:
    return effort_of(fields.get("reasoning", {}).get("effort") or fields.get("reasoning_effort"))


def effort_of(effort: str | None) -> Think:
    if not effort:
        return None
    if effort not in EFFORTS:
        names = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
        raise InvalidRequest(f"invalid reasoning value: {orjson.dumps(effort).decode()} (must be {names})")
    return EFFORTS[effort]


def embed_request(fields: dict[str, Any]) -> tuple[EmbedRequest, str]:
    """The request and the encoding its vectors are wanted in."""
    given = fields.get("input")
    inputs = [given] if isinstance(given, str) else given
    if not given or not isinstance(inputs, list) or not all(isinstance(item, str) for item in inputs):
        raise InvalidRequest("invalid input")
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(f"at most {MAX_INPUTS} inputs are accepted in one request, not {len(inputs)}")
    encoding = fields.get("encoding_format", "float")
    if encoding.lower() not in ("float", "base64", ""):
        supported = "Supported values: ['float', 'base64']."
        raise InvalidRequest(f"Invalid value for 'encoding_format' = {encoding}. {supported}")
    if not 0 <= fields.get("dimensions", 0) < 2**31:
        raise InvalidRequest("dimensions must be 0 or more")
    wanted = EmbedRequest(
        fields.get("model", ""),
        tuple(inputs),
        dimensions=fields.get("dimensions", 0),
        options=merged_options(fields, {}),
        keep_alive=fields.get("keep_alive"),
    )
    return wanted, encoding.lower()
