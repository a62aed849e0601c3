"""The last step of create: small layers replaced or appended in Ollama's order, and the config that sums it up."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from modelfiles import gotemplate, known_templates
from modelfiles.errors import TemplateError
from server.errors import InvalidRequest
from server.store import layers as parts_of
from server.store import model_config
from server.store.digests import Digest
from server.store.layers import Part
from server.store.library import Library
from server.store.manifests import CONFIG_TYPE, MAX_LAYERS, Layer
from server.store.model_config import ModelConfig
from server.store.record import MAX_MESSAGES, MAX_TEXT, message_to
from server.store.requests import CreateRequest
from server.store.sources import Sources, Weights


class Assembly:
    """``weights``: the GGUF layers as they will be. Blobs made here are pinned before they are written."""

    def __init__(
        self, library: Library, request: CreateRequest, sources: Sources, weights: list[Part], pins: ExitStack
    ) -> None:
        self._library = library
        self._request = request
        self._sources = sources
        self._weights = weights
        self._pins = pins
        self._inherited: dict[str, Any] = dict(sources.base.parameters) if sources.base else {}

    def build(self) -> tuple[Layer, list[Part]]:
        """The config layer and all layers. InvalidRequest for a bad template, ServerError for a bad license."""
        request = self._request
        parts = [*self._weights, *self._sources.others, *self._detected_template()]
        if request.template:
            check_template(request.template)
            parts = [*parts_of.without(parts, "template", "prompt"), self._add("template", request.template)]
        if request.system:
            parts = [*parts_of.without(parts, "system"), self._add("system", request.system)]
        texts = [text for text in parts_of.licenses(request.license) if text]
        if len(parts) + len(texts) > MAX_LAYERS - 2:  # parameters and messages may follow
            raise InvalidRequest(f"a model cannot have more than {MAX_LAYERS} layers")
        parts += [self._add("license", text) for text in texts]
        if data := parts_of.parameters(self._inherited, request.parameters):
            parts = [*parts_of.without(parts, "params"), self._add("params", data)]
        else:
            parts = parts_of.without(parts, "params")
        if request.messages:
            data = parts_of.messages(map(message_to, request.messages))
            parts = [*parts_of.without(parts, "messages"), self._add("messages", data)]
        data = model_config.encode(self._config())
        self._pins.enter_context(self._library.pin([Digest.of(data)]))
        digest, _ = self._library.blobs.add_bytes(data)
        return Layer(CONFIG_TYPE, digest, len(data)), parts

    def _add(self, kind: str, content: str | bytes, status: str = "") -> Part:
        data = content.encode("utf-8", "replace") if isinstance(content, str) else content
        limit = MAX_MESSAGES if kind == "messages" else MAX_TEXT
        if len(data) > limit:
            raise InvalidRequest(f"{kind} is over {limit} bytes")
        self._pins.enter_context(self._library.pin([Digest.of(data)]))
        return parts_of.new_part(self._library.blobs, kind, data, status)

    def _detected_template(self) -> list[Part]:
        """A Go template for an uploaded model whose Jinja is one that everybody knows, with its stop words."""
        model = next((w for w in self._sources.uploaded if w.kind == "model"), None)
        jinja = model.headers[0].chat_template if model else None
        found = known_templates.autodetect(jinja) if jinja else None
        if found is None:
            return []
        name, template, parameters = found
        self._inherited |= parameters
        return [self._add("template", template, f"using autodetected template {name}")]

    def _config(self) -> ModelConfig:
        request, base, info = self._request, self._sources.base, self._request.info
        old = base.config if base else ModelConfig()
        model = parts_of.of_kind(self._weights, "model")[0]
        described = Weights(model, [model.header] if model.header else [])
        family = model.header.architecture if model.header else old.model_family
        said = info.get("model_family") or ""
        return ModelConfig(
            model_format="gguf",
            model_family=said or family,
            model_families=(said, family) if said else (family,),
            model_type=info.get("parameter_size") or (model.header.parameter_size if model.header else ""),
            file_type=info.get("quantization_level") or described.type_name,
            renderer=request.renderer or old.renderer,
            parser=request.parser or old.parser,
            requires=request.requires or old.requires,
            capabilities=(*old.capabilities, *info.get("capabilities", ())),
            context_length=int(info.get("context_length") or 0),
            embedding_length=int(info.get("embedding_length") or 0),
            base_name=info.get("base_name") or "",
            draft=self._draft(old),
        )

    def _draft(self, old: ModelConfig) -> dict[str, Any] | None:
        drafts = parts_of.of_kind(self._weights, "draft")
        if not drafts or drafts[-1].header is None:
            return old.draft
        return {"model_format": "gguf", "architecture": drafts[-1].header.architecture}


def check_template(text: str) -> None:
    try:
        gotemplate.Template.parse(text)
    except TemplateError as error:
        raise InvalidRequest(f"template error: {error}") from None
