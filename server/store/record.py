"""One installed model, read from disk: manifest, config, small layers, and the header of its weights.

Everything a listing, ``show`` or a load needs, gathered once per change of the manifest. What is broken about the
weights is kept as ``problem`` and raised by whoever wants to load them, so that one bad model still can be listed.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from modelfiles import gguf, render
from modelfiles.errors import GGUFError, TemplateError
from modelfiles.gguf import Header
from server import options
from server.errors import ServerError, StoreError, Unsupported
from server.store import capabilities, model_config
from server.store.blobs import Blobs
from server.store.digests import Digest
from server.store.manifests import Entry, Layer, Manifest
from server.store.model_config import ModelConfig
from server.types import Message, ModelSpec, ToolCall

logger = logging.getLogger(__name__)

AGAIN = "create or pull the model again"
MAX_TEXT = 4 * 1024 * 1024
MAX_MESSAGES = 64 * 1024 * 1024
NO_TEMPLATE = "{{ .Prompt }}"

ReadHeader = Callable[[Digest], Header]
Headers = tuple[Header | None, list[Header], ServerError | None]


@dataclass(frozen=True, slots=True)
class Record:
    """``template``: the Go TEMPLATE layer. ``parameters`` and ``messages`` as they stand in their layers."""

    entry: Entry
    manifest: Manifest
    config: ModelConfig
    header: Header | None
    problem: ServerError | None
    template: str | None = None
    system: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: tuple[dict[str, Any], ...] = ()
    capabilities: tuple[str, ...] = ()

    @property
    def weights(self) -> Layer | None:
        return next(iter(self.manifest.of_kind("model")), None)

    @property
    def parent(self) -> str:
        return self.weights.source if self.weights else ""

    @property
    def shown_template(self) -> str:
        jinja = self.header.chat_template if self.header else None
        return self.template if self.template is not None else jinja or NO_TEMPLATE

    @property
    def file_type(self) -> str:
        known = self.config.file_type
        unknown = known in ("", "unknown") and self.header is not None
        return self.header.file_type if unknown and self.header else known


def read(entry: Entry, manifest: Manifest, blobs: Blobs, header_of: ReadHeader, prefer_go: bool | None) -> Record:
    """StoreError when the config or a small layer is unreadable; trouble with the weights becomes ``problem``."""
    config = model_config.parse(blobs.read(manifest.config.digest, model_config.MAX_BYTES))
    template = _text(blobs, manifest, MAX_TEXT, "template", "prompt")
    raw_parameters = _json(blobs, manifest, MAX_TEXT, "params", {})
    raw_messages = _json(blobs, manifest, MAX_MESSAGES, "messages", [])
    header, projectors, problem = _headers(config, manifest, blobs, header_of)
    go = _template_in_use(template, header, prefer_go)
    return Record(
        entry,
        manifest,
        config,
        header,
        problem,
        template=template,
        system=_text(blobs, manifest, MAX_TEXT, "system") or "",
        parameters=raw_parameters,
        messages=tuple(message for message in raw_messages if isinstance(message, dict)),
        capabilities=capabilities.of(config, header, projectors, go),
    )


def _headers(config: ModelConfig, manifest: Manifest, blobs: Blobs, header_of: ReadHeader) -> Headers:
    if config.remote:
        return None, [], Unsupported("this server cannot run this remote model")
    if config.model_format == "safetensors" or manifest.of_kind("tensor"):
        return None, [], Unsupported("this server cannot run models of tensor layers; create it from a GGUF")
    models = manifest.of_kind("model")
    if not models:
        return None, [], StoreError("the model has no weights; create or pull it again")
    try:
        for layer in manifest.of_kind("model", "adapter", "projector", "draft"):
            _check_blob(blobs, layer)
        header = header_of(models[0].digest)
        if header.split_count > 1:
            header = gguf.join([header_of(layer.digest) for layer in models])
        return header, [header_of(layer.digest) for layer in manifest.of_kind("projector")], None
    except GGUFError as error:
        return None, [], StoreError(f"{error}; create or pull the model again")
    except StoreError as error:
        return None, [], error


def _check_blob(blobs: Blobs, layer: Layer) -> None:
    size = blobs.size(layer.digest)
    if size is None:
        raise StoreError(f"blob {layer.digest} is missing; {AGAIN}")
    if size != layer.size:
        raise StoreError(
            f"model file is corrupt: blob {layer.digest} has {size} bytes instead of {layer.size}; {AGAIN}"
        )


def read_header(blobs: Blobs, digest: Digest) -> Header:
    """StoreError when the blob is missing, is a link, or is no GGUF that anybody should open."""
    if not blobs.has(digest):
        raise StoreError(f"blob {digest} is missing; {AGAIN}")
    try:
        return gguf.read_header(blobs.path(digest))
    except GGUFError as error:
        raise StoreError(f"model file is corrupt: {error}; {AGAIN}") from None
    except OSError as error:
        raise StoreError(f"reading blob {digest}: {(error.strerror or 'input/output error').lower()}") from error


def _template_in_use(template: str | None, header: Header | None, prefer_go: bool | None) -> str | None:
    """None where the weights' own Jinja speaks. A TEMPLATE that does not parse is in use, and fails when it is."""
    jinja = header.chat_template if header is not None else None
    try:
        return template if render.choose(template, jinja, prefer_go) == "go" else None
    except TemplateError:
        return template


def _text(blobs: Blobs, manifest: Manifest, limit: int, *kinds: str) -> str | None:
    """The last layer of these kinds: the one that Ollama would use."""
    layers = manifest.of_kind(*kinds)
    return blobs.read(layers[-1].digest, limit).decode("utf-8", "replace") if layers else None


def _json(blobs: Blobs, manifest: Manifest, limit: int, kind: str, empty: Any) -> Any:
    text = _text(blobs, manifest, limit, kind)
    if text is None:
        return empty
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise StoreError(f"the model's {kind} are not JSON") from None
    if value is not None and not isinstance(value, type(empty)):
        raise StoreError(f"the model's {kind} have the wrong type")
    return empty if value is None else value


def spec_of(record: Record, blobs: Blobs, prefer_go: bool | None) -> ModelSpec:
    """What a load needs. Raises the record's problem, and OptionError for parameters of the wrong type."""
    weights, header = record.weights, record.header
    if record.problem is not None or weights is None or header is None:
        raise record.problem or StoreError("the model has no weights; create or pull it again")
    config, manifest, name = record.config, record.manifest, record.entry.name
    drafts = manifest.of_kind("draft")
    return ModelSpec(
        name=name.short(),
        full_name=name.full(),
        digest=manifest.digest,
        weights_digest=weights.digest.hex,
        weights=blobs.path(weights.digest),
        size=manifest.size,
        adapters=tuple(blobs.path(layer.digest) for layer in manifest.of_kind("adapter")),
        projectors=tuple(blobs.path(layer.digest) for layer in manifest.of_kind("projector")),
        draft=blobs.path(drafts[0].digest) if drafts else None,
        template=_template_in_use(record.template, header, prefer_go),
        chat_template=header.chat_template,
        system=record.system,
        messages=tuple(map(message_from, record.messages)),
        parameters=options.parse(record.parameters),
        capabilities=frozenset(record.capabilities),
        family=config.model_family or header.architecture,
        families=config.model_families,
        parameter_size=config.model_type or header.parameter_size,
        quantization=record.file_type,
        context_length=header.context_length,
        embedding_length=header.embedding_length,
        renderer=config.renderer,
        parser=config.parser,
        parent=record.parent,
        parts=tuple(blobs.path(layer.digest) for layer in manifest.of_kind("model")[1 : header.split_count]),
    )


def message_from(raw: dict[str, Any]) -> Message:
    """A line of the messages layer (``api.Message`` of Ollama)."""

    def text(name: str) -> str:
        value = raw.get(name)
        return value if isinstance(value, str) else ""

    try:
        images = tuple(base64.b64decode(image, validate=True) for image in raw.get("images") or ())
        calls = tuple(
            ToolCall(call["function"]["name"], call["function"]["arguments"], call.get("id") or "")
            for call in raw.get("tool_calls") or ()
        )
    except (binascii.Error, KeyError, TypeError, ValueError):
        raise StoreError("the model's messages hold an image or a tool call that cannot be read") from None
    return Message(
        text("role"), text("content"), text("thinking"), images, calls, text("tool_name"), text("tool_call_id")
    )


def message_to(message: Message) -> dict[str, Any]:
    """The same line written: keys in Ollama's order, empty ones left out but for role and content."""
    raw: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        raw["thinking"] = message.thinking
    if message.images:
        raw["images"] = [base64.b64encode(image).decode() for image in message.images]
    if message.tool_calls:
        raw["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_name:
        raw["tool_name"] = message.tool_name
    if message.tool_call_id:
        raw["tool_call_id"] = message.tool_call_id
    return raw


def _call(call: ToolCall) -> dict[str, Any]:
    function: dict[str, Any] = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "function": function} if call.id else {"function": function}
