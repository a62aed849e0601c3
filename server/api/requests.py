"""The native request structs, field by field as Ollama names and types them, and their way into our types.

``GENERATE`` … are what ``decode`` checks a body against; the functions below turn the checked fields into the
requests of ``server.types``.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson

from server import options
from server.api.decode import (
    ANY,
    BOOL,
    BYTES,
    INT,
    KEEP_ALIVE,
    OBJECT,
    STRING,
    THINK,
    Kind,
    Struct,
    Where,
    list_of,
    map_of,
)
from server.errors import InvalidRequest, ServerError
from server.store.show import go_quote
from server.types import ChatRequest, CompletionRequest, EmbedRequest, Format, Message, ToolCall

logger = logging.getLogger(__name__)

MAX_MESSAGES, MAX_TOOLS, MAX_IMAGES, MAX_INPUTS, MAX_TOP_LOGPROBS = 10_000, 256, 16, 2048, 20
MAX_IMAGE_BYTES = 20 * 1024 * 1024
STRINGS = list_of(STRING, "[]string")


class FormatError(ServerError):
    """Status 500, because real Ollama answers so and clients match on it."""


def _arguments(value: Any, where: Where) -> dict[str, Any]:
    if type(value) is not dict:
        raise InvalidRequest("Value looks like object, but can't find closing '}' symbol")
    return value


def _type_names(value: Any, where: Where) -> str | list[str]:
    """A property's type: a name or a list of names (a list of one is that one)."""
    if isinstance(value, str):
        return value
    names: list[str] = STRINGS(value, where)
    return names[0] if len(names) == 1 else names


def whole(struct: Struct) -> Kind:
    """As ``struct``, but what Ollama would lose (``default``, ``minimum`` …) stays, behind what it knows."""

    def read(value: Any, where: Where) -> dict[str, Any]:
        found = struct(value, where)
        return found | {key: item for key, item in value.items() if key.lower() not in struct.lower}

    return Kind(read, struct.schema)


def _property(value: Any, where: Where) -> dict[str, Any]:
    read: dict[str, Any] = whole(PROPERTY)(value, where)
    return read


SCHEMA = Kind(_property, {"type": "object", "description": "a JSON schema"})
PROPERTIES = map_of(SCHEMA, "map[string]api.ToolProperty")
PROPERTY = Struct(
    "ToolProperty",
    {
        "anyOf": list_of(SCHEMA, "[]api.ToolProperty"),
        "type": Kind(_type_names),
        "items": ANY,
        "description": STRING,
        "enum": list_of(ANY, "[]interface {}"),
        "properties": PROPERTIES,
        "required": STRINGS,
    },
    own=True,
)
PARAMETERS = Struct(
    "ToolFunctionParameters",
    {"type": STRING, "$defs": ANY, "items": ANY, "required": STRINGS, "properties": PROPERTIES},
    own=True,
)
FUNCTION = Struct("ToolFunction", {"name": STRING, "description": STRING, "parameters": whole(PARAMETERS)}, own=True)
TOOL = Struct("Tool", {"type": STRING, "items": ANY, "function": FUNCTION}, own=True)
CALL = Struct(
    "ToolCall",
    {
        "id": STRING,
        "function": Struct(
            "ToolCallFunction",
            {"index": INT, "name": STRING, "arguments": Kind(_arguments, {"type": "object"})},
            own=True,
        ),
    },
    own=True,
)
MESSAGE = Struct(
    "Message",
    {
        "role": STRING,
        "content": STRING,
        "thinking": STRING,
        "images": list_of(BYTES, "[]api.ImageData", most=MAX_IMAGES),
        "tool_calls": list_of(CALL, "[]api.ToolCall", most=MAX_TOOLS),
        "tool_name": STRING,
        "tool_call_id": STRING,
    },
    kind="api.Alias",
    by_hand=True,
)
MESSAGES = list_of(MESSAGE, "[]api.Message", most=MAX_MESSAGES)
_SHARED: dict[str, Kind | Struct] = {
    "model": STRING,
    "stream": BOOL,
    "format": ANY,
    "keep_alive": KEEP_ALIVE,
    "options": OBJECT,
    "think": THINK,
    "truncate": BOOL,
    "shift": BOOL,
    "logprobs": BOOL,
    "top_logprobs": INT,
    "_debug_render_only": BOOL,
}
GENERATE = Struct(
    "GenerateRequest",
    _SHARED
    | {
        "prompt": STRING,
        "suffix": STRING,
        "system": STRING,
        "template": STRING,
        "context": list_of(INT, "[]int", most=10_000_000),
        "raw": BOOL,
        "images": list_of(BYTES, "[]api.ImageData", most=MAX_IMAGES),
    },
)
CHAT = Struct("ChatRequest", _SHARED | {"messages": MESSAGES, "tools": list_of(TOOL, "api.Tools", most=MAX_TOOLS)})
EMBED = Struct(
    "EmbedRequest",
    {
        "model": STRING,
        "input": ANY,
        "truncate": BOOL,
        "dimensions": INT,
        "keep_alive": KEEP_ALIVE,
        "options": OBJECT,
    },
)
EMBEDDINGS = Struct(
    "EmbeddingRequest", {"model": STRING, "prompt": STRING, "keep_alive": KEEP_ALIVE, "options": OBJECT}
)


def check_top_logprobs(fields: dict[str, Any]) -> None:
    if not 0 <= fields.get("top_logprobs", 0) <= MAX_TOP_LOGPROBS:
        raise InvalidRequest("top_logprobs must be between 0 and 20")


def chat_request(fields: dict[str, Any]) -> ChatRequest:
    messages = tuple(message(m or {}) for m in fields.get("messages", ()))
    check_images([image for m in messages for image in m.images])
    return ChatRequest(messages=messages, tools=tools(fields.get("tools", ())), **_common(fields))


def completion_request(fields: dict[str, Any]) -> CompletionRequest:
    images = tuple(image or b"" for image in fields.get("images", ()))
    check_images(images)
    return CompletionRequest(
        prompt=fields.get("prompt", ""),
        suffix=fields.get("suffix", ""),
        system=fields.get("system") or None,
        template=fields.get("template") or None,
        context=tuple(token or 0 for token in fields.get("context", ())),
        raw=fields.get("raw", False),
        images=images,
        **_common(fields),
    )


def embed_request(fields: dict[str, Any]) -> EmbedRequest:
    given = fields.get("input")
    inputs = [] if given in (None, "") else [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(item, str) for item in inputs):
        raise InvalidRequest("invalid input type")
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(f"at most {MAX_INPUTS} inputs are accepted in one request, not {len(inputs)}")
    if not 0 <= fields.get("dimensions", 0) < 2**31:
        raise InvalidRequest("dimensions must be 0 or more")
    return EmbedRequest(
        fields.get("model", ""),
        tuple(inputs),
        truncate=fields.get("truncate", True),
        dimensions=fields.get("dimensions", 0),
        options=model_options(fields),
        keep_alive=fields.get("keep_alive"),
    )


def _common(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": fields.get("model", ""),
        "format": answer_format(fields.get("format")),
        **_thinking(fields.get("think"), model_options(fields)),
        "keep_alive": fields.get("keep_alive"),
        "truncate": fields.get("truncate", True),
        "shift": fields.get("shift", True),
        "logprobs": fields.get("logprobs", False),
        "top_logprobs": fields.get("top_logprobs", 0),
        "render_only": fields.get("_debug_render_only", False),
    }


def _thinking(think: Any, given: dict[str, Any]) -> dict[str, Any]:
    """A number of tokens is how long the model may think; 0 is not at all."""
    if think is None or isinstance(think, bool | str):
        return {"think": think, "options": given}
    return {"think": think > 0, "options": {**given, "think_budget": think}}


def model_options(fields: dict[str, Any]) -> dict[str, Any]:
    given = fields.get("options", {})
    if unknown := options.unknown(given):
        logger.warning("options that nothing here reads: %s", ascii([name[:40] for name in unknown[:8]]))
    return options.parse(given)


def answer_format(given: Any) -> Format:
    """None for what is no format, too: whoever is going to generate asks ``format_error`` first."""
    if given == {}:
        return "json"  # to llama.cpp the schema that says nothing stands for any object
    if given == "json" or isinstance(given, dict):
        return given  # type: ignore[no-any-return]
    return None


def format_error(fields: dict[str, Any]) -> FormatError | None:
    given = fields.get("format")
    if given in (None, "", "json") or isinstance(given, dict):
        return None
    raw = go_quote(orjson.dumps(given).decode())
    return FormatError(f'invalid format: {raw}; expected "json" or a valid JSON Schema object')


def message(fields: dict[str, Any]) -> Message:
    return Message(
        role=fields.get("role", "").lower(),
        content=fields.get("content", ""),
        thinking=fields.get("thinking", ""),
        images=tuple(image or b"" for image in fields.get("images", ())),
        tool_calls=tuple(_call(call or {}) for call in fields.get("tool_calls", ())),
        tool_name=fields.get("tool_name", ""),
        tool_call_id=fields.get("tool_call_id", ""),
    )


def _call(fields: dict[str, Any]) -> ToolCall:
    function = fields.get("function", {})
    return ToolCall(
        function.get("name", ""), function.get("arguments", {}), fields.get("id", ""), function.get("index")
    )


def tools(given: Any) -> tuple[dict[str, Any], ...]:
    """Each tool with its keys in the order in which Ollama's structs print them: templates show them so."""
    return tuple(_in_order(tool or {}, TOOL, {"type": "", "function": {}}) for tool in given)


def _in_order(found: dict[str, Any], struct: Struct, always: dict[str, Any]) -> dict[str, Any]:
    keys = [key for key in struct.fields if found.get(key) or key in always]
    made: dict[str, Any] = {key: found.get(key) or always.get(key) for key in keys}
    if struct is TOOL:
        made["function"] = _in_order(made["function"], FUNCTION, {"name": "", "parameters": {}})
    elif struct is FUNCTION:
        made["parameters"] = _in_order(made["parameters"], PARAMETERS, {"type": "", "properties": None})
    elif made.get("properties") is not None:
        made["properties"] = {name: _in_order(item, PROPERTY, {}) for name, item in made["properties"].items()}
    if "anyOf" in made:
        made["anyOf"] = [_in_order(item or {}, PROPERTY, {}) for item in made["anyOf"]]
    return made | {key: value for key, value in found.items() if key not in struct.fields}


def check_images(images: Any) -> None:
    if len(images) > MAX_IMAGES:
        raise InvalidRequest(f"at most {MAX_IMAGES} images are accepted in one request, not {len(images)}")
    if any(len(image) > MAX_IMAGE_BYTES for image in images):
        raise InvalidRequest(f"an image may have at most {MAX_IMAGE_BYTES // 2**20} MiB")
