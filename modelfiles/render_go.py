"""A conversation through a Go TEMPLATE: the variables that Ollama sets, and its way with old templates.

A template that does not know ``.Messages`` is run once per turn with ``.System``, ``.Prompt`` and ``.Response``; what
it has behind ``.Response`` is left out of the last turn, for the model to go on there.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from modelfiles.conversation import Message, tool_wire
from modelfiles.gotemplate import Template
from modelfiles.gotemplate_tree import Action, Field, terms, walk
from modelfiles.gotemplate_values import JSONArray, JSONObject, Struct

Think = bool | str | None


@lru_cache(maxsize=64)
def parsed(source: str) -> Template:
    """Where a template has no place for an answer, that is its end."""
    template = Template.parse(source)
    if not template.variables() & {"messages", "response"}:
        template = Template.parse(source + "{{ .Response }}")
    return template


def render_chat(
    source: str,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    think: Think,
    today: datetime.date | None = None,
) -> str:
    template = parsed(source)
    if not _prints_role(template) and "developer" not in source:
        messages = [{**m, "role": "system"} if m["role"] == "developer" else m for m in messages]
    system, messages = collate(messages)
    if "messages" not in template.variables():
        return _legacy(template, messages, think, today)
    data = {
        "System": system,
        "Messages": [_message(message) for message in messages],
        "Tools": JSONArray(_tool(tool_wire(tool)) for tool in tools),
        "Response": "",
        **_thinking(think),
    }
    return template.render(data, today=today)


def render_infill(source: str, prompt: str, suffix: str, today: datetime.date | None = None) -> str:
    return parsed(source).render({"Prompt": prompt, "Suffix": suffix, "Response": ""}, today=today)


def collate(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """All system texts as one, and the messages with neighbours of one role merged (not results of tools)."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    out: list[Message] = []
    for message in messages:
        last = out[-1] if out else None
        if last is None or last["role"] != message["role"] or message["role"] == "tool":
            out.append(dict(message))
            continue
        last["content"] += "\n\n" + message["content"]
        last["thinking"] = "\n\n".join(filter(None, (last["thinking"], message["thinking"])))
        last["images"] += message["images"]
        last["tool_calls"] = [*last["tool_calls"], *message["tool_calls"]]
    return system, out


def _legacy(template: Template, messages: Sequence[Message], think: Think, today: datetime.date | None) -> str:
    output = ""
    turn = {"System": "", "Prompt": "", "Response": ""}
    names = {"system": "System", "user": "Prompt", "assistant": "Response"}
    for message in messages:
        name = names.get(message["role"])
        if name is None:
            continue
        if (name == "System" and (turn["Prompt"] or turn["Response"])) or (name == "Prompt" and turn["Response"]):
            output += template.render({**turn, **_thinking(think)}, today=today)
            turn = {"System": "", "Prompt": "", "Response": ""}
        turn[name] = message["content"]
    return output + template.render({**turn, **_thinking(think)}, today=today, up_to="Response")


def _thinking(think: Think) -> dict[str, Any]:
    level = think if isinstance(think, str) else "medium" if think else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


def _prints_role(template: Template) -> bool:
    actions = (node.pipe for node in walk(template.root) if isinstance(node, Action))
    return any(isinstance(term, Field) and term.names[-1] == "Role" for pipe in actions for term in terms(pipe))


# -- the shapes of Ollama's types -------------------------------------------------------------------------


def _message(message: Message) -> dict[str, Any]:
    return {
        "Role": message["role"],
        "Content": message["content"],
        "Thinking": message["thinking"],
        "Images": list(range(message["images"])),
        "ToolCalls": [_call(call) for call in message["tool_calls"]],
        "ToolName": message["tool_name"],
        "ToolCallID": message["tool_call_id"],
    }


def _call(call: Message) -> Struct:
    function = call["function"]
    arguments = JSONObject(function["arguments"])
    wire = JSONObject(index=function["index"], name=function["name"], arguments=arguments)
    fields = {"Index": function["index"], "Name": function["name"], "Arguments": arguments}
    return Struct({"ID": call["id"], "Function": Struct(fields, wire)}, {"id": call["id"], "function": wire})


def _tool(wire: Mapping[str, Any]) -> Struct:
    function = wire["function"]
    parameters = function["parameters"]
    fields = {
        "Name": function["name"],
        "Description": function.get("description", ""),
        "Parameters": Struct(
            {
                "Type": parameters["type"],
                "Defs": parameters.get("$defs"),
                "Items": parameters.get("items"),
                "Required": parameters.get("required", []),
                "Properties": _properties(parameters["properties"]),
            },
            _ordered(parameters),
        ),
    }
    return Struct(
        {"Type": wire["type"], "Items": wire.get("items"), "Function": Struct(fields, _ordered(function))},
        _ordered(wire),
    )


def _properties(properties: Mapping[str, Any]) -> JSONObject:
    return JSONObject((name, _property(schema)) for name, schema in properties.items())


def _property(wire: Mapping[str, Any]) -> Struct:
    types = wire.get("type", [])
    return Struct(
        {
            "AnyOf": [_property(option) for option in wire.get("anyOf", ())],
            "Type": types,
            "Items": wire.get("items"),
            "Description": wire.get("description", ""),
            "Enum": wire.get("enum", []),
            "Properties": _properties(wire.get("properties", {})),
            "Required": wire.get("required", []),
        },
        _ordered(wire),
    )


def _ordered(wire: Any) -> Any:
    """JSON whose key order is the one it has."""
    if isinstance(wire, Mapping):
        return JSONObject((key, _ordered(value)) for key, value in wire.items())
    return [_ordered(item) for item in wire] if isinstance(wire, list) else wire
