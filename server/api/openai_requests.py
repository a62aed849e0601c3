"""OpenAI's request structs as Ollama's translator names them, and their way into our types."""

from __future__ import annotations

import re
from typing import Any

import orjson

from server import options
from server.api.decode import ANY, BOOL, FLOAT, INT, OBJECT, STRING, Kind, Struct, list_of, unbase64
from server.api.requests import MAX_INPUTS, MAX_MESSAGES, MAX_TOOLS, TOOL, check_images, check_top_logprobs, tools
from server.errors import InvalidRequest
from server.types import ChatRequest, EmbedRequest, Format, Message, Think, ToolCall

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
DATA_URL = re.compile(r"data:image/(?:jpeg|jpg|png|webp);base64,")
GO_TYPES = {bool: "bool", int: "float64", float: "float64", dict: "map[string]interface {}", type(None): "<nil>"}

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
    _SHARED | {"prompt": STRING, "suffix": STRING, "logprobs": INT},
    kind="openai.CompletionRequest",
)
EMBEDDING = Struct(
    "EmbedRequest",
    {"input": ANY, "model": STRING, "dimensions": INT, "encoding_format": STRING},
    kind="openai.EmbedRequest",
)


def chat_request(fields: dict[str, Any]) -> ChatRequest:
    if not fields.get("messages"):
        raise InvalidRequest("[] is too short - 'messages'")
    check_top_logprobs(fields)
    messages = _messages([message or {} for message in fields["messages"]])
    check_images([image for message in messages for image in message.images])
    if not fields.get("model"):
        raise InvalidRequest("model is required")
    return ChatRequest(
        fields["model"],
        tuple(messages),
        tools=() if fields.get("tool_choice") == "none" else tools(fields.get("tools", ())),
        format=_format(fields.get("response_format", {})),
        think=_think(fields),
        options=sampling_options(fields),
        logprobs=fields.get("logprobs", False),
        top_logprobs=fields.get("top_logprobs", 0),
        render_only=fields.get("_debug_render_only", False),
    )


def sampling_options(fields: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's defaults for temperature and top_p stand above the model's own parameters, as in Ollama."""
    if fields.get("n", 1) != 1:
        raise InvalidRequest("n must be 1: one answer per request is given here")
    found: dict[str, Any] = {"temperature": fields.get("temperature", 1.0), "top_p": fields.get("top_p", 1.0)}
    found["num_predict"] = fields.get("max_completion_tokens", fields.get("max_tokens"))
    stop = fields.get("stop")
    found["stop"] = [stop] if isinstance(stop, str) else stop
    for name in ("seed", "frequency_penalty", "presence_penalty", "logit_bias"):
        found[name] = fields.get(name)
    try:
        return options.parse(found)
    except options.OptionError as error:
        raise InvalidRequest(error.message) from None


def _format(given: dict[str, Any]) -> Format:
    kind = given.get("type", "").lower().strip()
    if kind == "json_object":
        return "json"
    schema = given.get("json_schema", {}).get("schema")
    if kind == "json_schema" and schema is not None:
        if not isinstance(schema, dict):
            raise InvalidRequest("response_format.json_schema.schema must be a JSON schema object")
        return schema
    return None


def _think(fields: dict[str, Any]) -> Think:
    effort = fields.get("reasoning", {}).get("effort") or fields.get("reasoning_effort")
    if not effort:
        return None
    if effort not in EFFORTS:
        names = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
        raise InvalidRequest(f"invalid reasoning value: {orjson.dumps(effort).decode()} (must be {names})")
    return EFFORTS[effort]


def _messages(given: list[dict[str, Any]]) -> list[Message]:
    """Each part of a content list becomes a message of its own; templates join them again."""
    made: list[Message] = []
    names: dict[str, str] = {}
    for fields in given:
        calls = tuple(_call(call or {}, index) for index, call in enumerate(fields.get("tool_calls", ())))
        names |= {call.id: call.name for call in calls if call.id}
        contents = _contents(fields)
        for place, (text, images) in enumerate(contents):
            last = place == len(contents) - 1
            made.append(
                Message(
                    fields.get("role", "").lower(),
                    text,
                    thinking=fields.get("reasoning", "") if last else "",
                    images=images,
                    tool_calls=calls if last else (),
                    tool_name=fields.get("name") or names.get(fields.get("tool_call_id", ""), ""),
                    tool_call_id=fields.get("tool_call_id", ""),
                )
            )
    return made


def _contents(fields: dict[str, Any]) -> list[tuple[str, tuple[bytes, ...]]]:
    content = fields.get("content")
    if isinstance(content, str):
        return [(content, ())]
    if isinstance(content, list):
        parts = [_part(part) for part in content]
        return parts or ([("", ())] if fields.get("tool_calls") else [])
    if not fields.get("tool_calls"):
        raise InvalidRequest(f"invalid message content type: {GO_TYPES[type(content)]}")
    return [("", ())]


def _part(part: Any) -> tuple[str, tuple[bytes, ...]]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"], ()
    if kind == "image_url":
        given = part.get("image_url")
        url = given.get("url") if isinstance(given, dict) else given
        if not isinstance(url, str):
            raise InvalidRequest("invalid message format")
        return "", (_image(url),)
    if kind == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, dict) else None
        if not isinstance(data, str):
            raise InvalidRequest("invalid message format")
        return "", (unbase64(data),)
    raise InvalidRequest("invalid message format")


def _image(url: str) -> bytes:
    if url.startswith(("http://", "https://")):
        raise InvalidRequest("image URLs are not currently supported, please use base64 encoded data instead")
    match = DATA_URL.match(url)
    if match is None:
        raise InvalidRequest("invalid image input")
    try:
        return unbase64(url[match.end() :])
    except InvalidRequest:
        raise InvalidRequest("invalid image input") from None


def _call(fields: dict[str, Any], index: int) -> ToolCall:
    function = fields.get("function", {})
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest("invalid tool call arguments")
    return ToolCall(function.get("name", ""), arguments, fields.get("id", ""), fields.get("index", index))


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
    wanted = EmbedRequest(fields.get("model", ""), tuple(inputs), dimensions=fields.get("dimensions", 0))
    return wanted, encoding.lower()
