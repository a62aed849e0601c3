"""What a tool's schema says about one argument: is it written as text or as JSON?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]


def parameters_of(tool: Mapping[str, Any]) -> Schema:
    found = (tool.get("function") or {}).get("parameters")
    return found if isinstance(found, Mapping) else {}


def schemas_of(tools: Any) -> dict[str, Schema]:
    """name → parameters, of the tools that have a name."""
    named = [(str((tool.get("function") or {}).get("name") or ""), parameters_of(tool)) for tool in tools]
    return {name: parameters for name, parameters in named if name}


def property_of(schema: Schema, key: str) -> Schema:
    """The schema of the argument ``key``; what it refers to is looked up."""
    properties = schema.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return resolved(schema, found) if isinstance(found, Mapping) else {}


def resolved(root: Schema, schema: Schema) -> Schema:
    for _ in range(8):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        target: Any = root
        for step in reference[2:].split("/"):
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            break
        schema = target
    return schema


def is_text(schema: Schema) -> bool:
    """Every value is a text."""
    kind = schema.get("type")
    if kind is not None:
        return bool(kind in ("string", ["string"]))
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    return bool(values) and all(isinstance(value, str) for value in values)


def may_be_text(schema: Schema) -> bool:
    """A value that is no JSON may be a text; where nothing is said, it may."""
    kind = schema.get("type")
    return kind is None or kind == "string" or (isinstance(kind, list) and "string" in kind)
