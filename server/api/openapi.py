"""The API described twice from one table: as OpenAPI 3.1 for programs, as one plain page for people."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp.typedefs import Handler

from server.api.decode import Struct
from server.config import VERSION

ABOUT = "Ollama's API, and OpenAI's and Anthropic's under /v1, spoken by llamada."
STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}code{background:#8882}"
ERROR = {"type": "object", "properties": {"error": {}}, "required": ["error"]}


@dataclass(frozen=True, slots=True)
class Route:
    """``body``: the JSON it takes; ``kinds``: the media types of a good answer."""

    methods: str
    path: str
    handler: Handler
    summary: str
    body: Struct | None = None
    kinds: tuple[str, ...] = ("application/json",)


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for method in route.methods.split():
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "llamada", "version": VERSION, "description": ABOUT},
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}},
    }


def _operation(route: Route, method: str) -> dict[str, Any]:
    good: dict[str, Any] = {} if method == "HEAD" else {kind: {} for kind in route.kinds}
    bad = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    made: dict[str, Any] = {
        "summary": route.summary,
        "responses": {
            "200": {"description": "the answer", "content": good},
            "default": {"description": "an error", "content": bad},
        },
    }
    names = re.findall(r"\{(\w+)", route.path)
    if names:
        made["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if route.body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.body.schema}}}
    return made


def page(routes: Iterable[Route]) -> str:
    """No script, no picture, nothing from elsewhere."""
    sections = "".join(_section(route) for route in routes)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>llamada API</title><style>{STYLE}</style>"
    return f"{head}<h1>llamada API</h1><p>{ABOUT} For programs: <a href=/api/openapi.json>openapi.json</a>.{sections}"


def _section(route: Route) -> str:
    fields = ""
    if route.body is not None:
        rows = (
            f"<li><code>{html.escape(name)}</code> {_kind(kind.schema)}" for name, kind in route.body.fields.items()
        )
        fields = f"<ul>{''.join(rows)}</ul>"
    title = html.escape(f"{route.methods.replace(' ', ', ')} {route.path}")
    return f"<h2><code>{title}</code></h2><p>{html.escape(route.summary)}. Answers {', '.join(route.kinds)}.{fields}"


def _kind(schema: Any) -> str:
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema['items'])}"
    return html.escape(" or ".join(kind) if isinstance(kind, list) else kind)
