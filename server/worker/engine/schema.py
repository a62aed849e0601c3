"""A client's JSON schema made ready for the grammar compiler: bounded, local, and only with keywords that hold.

What would restrict the answer but cannot be enforced while generating is refused by name; annotations and
unknown keywords are ignored, as the JSON Schema standard has it. Pure.
"""

from __future__ import annotations

import json
from typing import Any

from server.errors import InvalidRequest

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 2000
MAX_PATTERNS = 64  # the compiler compares each patternProperties with each other
MAX_COMBINED = 8  # patterns laid over each other cost the compiler 2 ** n

SUBSCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
SUBSCHEMA_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
SUBSCHEMAS = frozenset({"items", "additionalItems", "additionalProperties"})
# any other format is an annotation
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
UNSUPPORTED = frozenset({"not", "if", "then", "else", "contains", "propertyNames", "$dynamicRef", "$recursiveRef"}) | {
    *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedItems", "unevaluatedProperties")
}
DROPPED = frozenset({"$id", "id", "x-guidance"})  # the last would steer the compiler itself
DRAFTS = ("http://json-schema.org/draft-0", "https://json-schema.org/draft/20")


class ConstraintError(InvalidRequest, ValueError):
    """A format or grammar that cannot be obeyed; the text names what is wrong with it."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"invalid format: {detail}")


def prepare(schema: dict[str, Any]) -> str:
    """The schema as JSON text for the compiler. ConstraintError if it is too large or cannot be enforced.

    An object that lists its ``properties`` has no others unless it says so: models drift into inventing more,
    and Ollama's answers never have them.
    """
    walk = _Walk()
    prepared = walk.schema(schema, "$", 0)
    if walk.combined and walk.regexes > MAX_COMBINED:
        raise ConstraintError(f'a schema that combines schemas may have at most {MAX_COMBINED} "pattern"s')
    if not walk.combined:
        for node in walk.closable:
            node["additionalProperties"] = False
    try:
        text = json.dumps(prepared, allow_nan=False)
    except (TypeError, ValueError):
        raise ConstraintError("the schema holds a value that is not JSON") from None
    if len(text) > MAX_BYTES:
        raise ConstraintError(f"the schema is larger than {MAX_BYTES // 1024} KiB")
    return text


def relaxed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments: what cannot be enforced is left out, so that the rest can be."""
    walk = _Walk(relaxed=True)
    prepared: dict[str, Any] = walk.schema(schema, "parameters", 0)
    if walk.combined and walk.regexes > MAX_COMBINED:
        raise ConstraintError(f'parameters that combine schemas may have at most {MAX_COMBINED} "pattern"s')
    if not walk.combined:
        for node in walk.closable:
            node["additionalProperties"] = False
    return prepared


class _Walk:
    def __init__(self, *, relaxed: bool = False) -> None:
        self.relaxed = relaxed
        self.nodes = self.patterns = self.regexes = 0
        self.closable: list[dict[str, Any]] = []
        self.combined = False  # schemas that are laid over each other must stay open, or none of them fits

    def schema(self, node: Any, at: str, depth: int) -> Any:
        self._count(depth)
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise ConstraintError(f"{at} must be an object")
        result = {}
        for keyword, value in node.items():
            if not self._ignored(keyword, value):
                result[keyword] = self._value(keyword, value, f"{at}.{keyword}", depth)
        self._close(result)
        return result

    def _count(self, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ConstraintError(f"the schema has more than {MAX_NODES} parts")
        if depth > MAX_DEPTH:
            raise ConstraintError(f"the schema is nested deeper than {MAX_DEPTH} levels")

    def _ignored(self, keyword: str, value: Any) -> bool:
        if keyword == "$schema":
            return not str(value).startswith(DRAFTS)
        if keyword == "format":
            return value not in FORMATS
        if self.relaxed and (keyword in UNSUPPORTED or (keyword == "$ref" and not str(value).startswith("#"))):
            return True
        return keyword in DROPPED or (keyword == "uniqueItems" and (self.relaxed or value is False))

    def _value(self, keyword: str, value: Any, at: str, depth: int) -> Any:
        if keyword in UNSUPPORTED or keyword == "uniqueItems":
            raise ConstraintError(f'the keyword "{keyword}" ({at}) is not supported')
        if keyword == "$ref" and not str(value).startswith("#"):
            raise ConstraintError(f'{at}: "$ref" must point into the schema itself, as "#/$defs/name" does')
        if keyword in SUBSCHEMA_MAPS and isinstance(value, dict):
            self.patterns += len(value) if keyword == "patternProperties" else 0
            if self.patterns > MAX_PATTERNS:
                raise ConstraintError(f'the schema has more than {MAX_PATTERNS} "patternProperties"')
            return {name: self.schema(sub, f"{at}.{name}", depth + 1) for name, sub in value.items()}
        if isinstance(value, list) and (keyword in SUBSCHEMA_LISTS or keyword == "items"):
            return [self.schema(sub, f"{at}[{index}]", depth + 1) for index, sub in enumerate(value)]
        if keyword in SUBSCHEMAS:
            return self.schema(value, at, depth + 1)
        self.regexes += keyword == "pattern"
        self._plain(value, depth)
        return value

    def _plain(self, value: Any, depth: int) -> None:
        if isinstance(value, dict | list):
            self._count(depth)
            for item in value.values() if isinstance(value, dict) else value:
                self._plain(item, depth + 1)

    def _close(self, node: dict[str, Any]) -> None:
        parts = sum(keyword in node for keyword in ("properties", "$ref", "anyOf", "oneOf"))
        all_of = node.get("allOf")
        self.combined |= parts + (len(all_of) if isinstance(all_of, list) else 0) > 1
        properties, required = node.get("properties"), node.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            return  # the compiler says what is wrong
        says = {"additionalProperties", "patternProperties", "minProperties"} & node.keys()
        if not says and all(name in properties for name in required):
            self.closable.append(node)
