"""The importance matrix of a create: given, computed in a child process, or carried by the base; and kept if wanted.

A kept matrix is a layer of our own media type, which Ollama passes over. Models made from one that carries it are
quantized with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from pathlib import Path

from modelfiles.quantization import PLAIN
from server.errors import StoreError
from server.store.digests import Digest
from server.store.layers import Part, of_kind, status_of, without
from server.store.library import Library
from server.store.manifests import Layer
from server.store.requests import CreateRequest
from server.store.rewrite import convert, link_parts
from server.store.sources import Sources, Weights

IMATRIX_TYPE = "application/vnd.llamada.image.imatrix"


class Importance:
    """``prepare`` before the weights are rewritten; then ``options`` are the converter's."""

    def __init__(self, library: Library, request: CreateRequest, sources: Sources, pins: ExitStack) -> None:
        self._library = library
        self._request = request
        self._sources = sources
        self._pins = pins
        self._path: Path | None = None

    async def prepare(self, weights: Weights, environment: Mapping[str, str]) -> AsyncGenerator[float | str]:
        """Yields the fraction computed, and remarks. InvalidRequest when text or model will not do."""
        request = self._request
        if request.imatrix:
            ((name, digest),) = request.imatrix.items()
            self._path = self._blob(name, digest)
            self._keep(Digest.parse(digest), created=False)
        elif request.calibration or request.calibrate_self:
            async with aclosing(self._compute(weights, environment)) as told:
                async for news in told:
                    yield news
        elif carried := of_kind(self._sources.others, IMATRIX_TYPE):
            self._path = self._library.blobs.path(carried[-1].layer.digest)

    def options(self, kind: str) -> tuple[str, ...]:
        """What ``python -m converters quantize`` is told, for weights that become ``kind``."""
        request = self._request
        options = [f"--tensor-type={text}" for text in request.tensor_types]
        options += ["--allow-requantize"] * request.allow_requantize
        if self._path is not None and kind not in PLAIN:
            options += ["--imatrix", str(self._path)]
        return tuple(options)

    async def _compute(self, weights: Weights, environment: Mapping[str, str]) -> AsyncGenerator[float | str]:
        blobs = self._library.blobs
        folder = self._pins.enter_context(blobs.staging())
        source = link_parts(folder, blobs, weights.files) if weights.files else blobs.path(weights.part.layer.digest)
        out = folder / "imatrix.gguf"
        options = ["--self"] if self._request.calibrate_self else []
        for name, digest in (self._request.calibration or {}).items():
            options += ["--text", str(self._blob(name, digest)), f"--dataset={name}"]
        async with aclosing(convert("imatrix", source, out, options, environment)) as told:
            async for news in told:
                yield news
        self._path = out
        if self._request.keep_imatrix:
            adopted, created = await asyncio.to_thread(blobs.adopt, out)
            self._path = blobs.path(adopted)
            self._keep(adopted, created)

    def _blob(self, name: str, digest: str) -> Path:
        parsed = Digest.parse(digest)
        self._pins.enter_context(self._library.pin([parsed]))
        if not self._library.blobs.has(parsed):
            raise StoreError(f"{name}: blob {parsed} is missing; upload it first")
        return self._library.blobs.path(parsed)

    def _keep(self, digest: Digest, created: bool) -> None:
        """A layer in the place of one that the base carried."""
        if not self._request.keep_imatrix:
            return
        self._pins.enter_context(self._library.pin([digest]))
        layer = Layer(IMATRIX_TYPE, digest, self._library.blobs.size(digest) or 0)
        self._sources.others = [*without(self._sources.others, IMATRIX_TYPE), Part(layer, status_of(digest, created))]
