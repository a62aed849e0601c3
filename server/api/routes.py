"""Every route: method, path, handler, what its body is, one line of description."""

from __future__ import annotations

from aiohttp import web

from server.api import (
    anthropic,
    anthropic_requests,
    library,
    ollama,
    openai,
    openai_requests,
    openapi,
    requests,
    responses,
    responses_requests,
    system,
    tokens,
    transfers,
)
from server.api.openapi import Route
from server.api.streaming import json_response


async def openapi_json(request: web.Request) -> web.Response:
    return json_response(openapi.describe(ROUTES))


async def docs(request: web.Request) -> web.Response:
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    return web.Response(body=openapi.page(ROUTES).encode(), headers=headers)


JSON, STREAM, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"
ROUTES = (
    Route("GET HEAD", "/", system.root, "Whether the server is alive", kinds=("text/plain",)),
    Route("GET HEAD", "/api/version", system.version, "The Ollama version that is spoken, and our own"),
    Route("GET", "/api/status", system.status, "Whether cloud models are allowed"),
    Route("POST", "/api/generate", ollama.generate, "Complete a prompt", requests.GENERATE, (STREAM, JSON)),
    Route("POST", "/api/chat", ollama.chat, "Answer a conversation", requests.CHAT, (STREAM, JSON)),
    Route("POST", "/api/embed", ollama.embed, "Embed one or many texts", requests.EMBED),
    Route("POST", "/api/embeddings", ollama.embeddings, "Embed one text (older form)", requests.EMBEDDINGS),
    Route("POST", "/api/tokenize", tokens.tokenize, "The tokens of a text", tokens.TOKENIZE),
    Route("POST", "/api/detokenize", tokens.detokenize, "The text of tokens", tokens.DETOKENIZE),
    Route("GET HEAD", "/api/tags", library.tags, "The models of the store"),
    Route("GET", "/api/ps", library.ps, "The models in memory"),
    Route("POST", "/api/show", library.show, "All about one model", library.SHOW),
    Route("POST", "/api/create", library.create, "Make a model", library.CREATE, (STREAM, JSON)),
    Route("POST", "/api/blobs/{digest}", library.blob_upload, "Upload a file by its digest"),
    Route("HEAD", "/api/blobs/{digest}", library.blob_check, "Whether a file is there"),
    Route("POST", "/api/copy", library.copy, "Give a model a second name", library.COPY),
    Route("DELETE", "/api/delete", library.delete, "Remove a model", library.DELETE),
    Route("POST", "/api/pull", transfers.pull, "Fetch a model from a registry", transfers.PULL, (STREAM, JSON)),
    Route("POST", "/api/push", transfers.push, "Send a model to a registry", transfers.PUSH, (STREAM, JSON)),
    Route("POST", "/api/me", system.me, "The signed-in account: there is none"),
    Route("POST", "/api/signout", system.signout, "Sign out of the account: there is none"),
    Route("DELETE", "/api/user/keys/{key}", system.signout, "The older form of signing out"),
    Route("POST", "/api/experimental/web_search", system.web_tools, "Search the web: refused"),
    Route("POST", "/api/experimental/web_fetch", system.web_tools, "Fetch a web page: refused"),
    Route("GET", "/api/experimental/model-recommendations", system.recommendations, "Cloud models: refused"),
    Route(
        "POST",
        "/v1/chat/completions",
        openai.chat,
        "OpenAI: answer a conversation",
        openai_requests.CHAT,
        (JSON, EVENTS),
    ),
    Route(
        "POST",
        "/v1/completions",
        openai.completions,
        "OpenAI: complete a prompt",
        openai_requests.COMPLETION,
        (JSON, EVENTS),
    ),
    Route(
        "POST",
        "/v1/responses",
        responses.responses,
        "OpenAI: answer a conversation, and remember it",
        responses_requests.RESPONSE,
        (JSON, EVENTS),
    ),
    Route("POST", "/v1/embeddings", openai.embeddings, "OpenAI: embed texts", openai_requests.EMBEDDING),
    Route("GET", "/v1/models", openai.models, "OpenAI: the models of the store"),
    Route("GET", "/v1/models/{model}", openai.model, "OpenAI: one model"),
    Route(
        "POST",
        "/v1/messages",
        anthropic.messages,
        "Anthropic: answer a conversation",
        anthropic_requests.MESSAGES,
        (JSON, EVENTS),
    ),
    Route(
        "POST",
        "/v1/messages/count_tokens",
        anthropic.count_tokens,
        "Anthropic: count a prompt's tokens",
        anthropic_requests.COUNT,
    ),
    Route("GET", "/healthz", system.healthz, "Whether the process answers"),
    Route("GET", "/readyz", system.readyz, "Whether every loaded model's engine answers"),
    Route("GET", "/metrics", system.metrics, "Prometheus metrics", kinds=("text/plain",)),
    Route("GET", "/api/openapi.json", openapi_json, "This description, for programs"),
    Route("GET", "/api/docs", docs, "This description, for people", kinds=("text/html",)),
)


def add_to(router: web.UrlDispatcher) -> None:
    for route in ROUTES:
        for method in route.methods.split():
            router.add_route(method, route.path, route.handler)
