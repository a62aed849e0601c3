"""What a new model is made from: the layers of an installed one and uploaded GGUFs, each opened and checked.

Every GGUF goes through the bounded header reader before llama.cpp may see it. Split models are put together,
adapters compared with the base that they are for.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from modelfiles import gguf
from modelfiles.errors import GGUFError
from modelfiles.gguf import Header
from modelfiles.gguf_types import SplitName
from modelfiles.quantization import FILE_NUMBERS, file_type_named
from server.errors import InvalidRequest, ModelNotFound, ServerError, StoreError
from server.store.blobs import Blobs
from server.store.digests import Digest
from server.store.layers import Part, status_of, taken_over
from server.store.library import Library, parse_name
from server.store.manifests import LAYER_TYPE, Layer
from server.store.record import Record
from server.store.requests import CreateRequest

GGUF_KINDS = ("model", "projector", "adapter", "draft")  # also their order in a manifest
PLAIN = ("F32", "F16", "BF16")
COUNTERS = ("I8", "I16", "I32", "I64")
# Tensors of a vision or audio part that old Ollama kept inside the model's file; llama.cpp refuses to rewrite them.
EMBEDDED = ("a.", "mm.", "mtp.", "s.", "v.")


@dataclass(slots=True)
class Weights:
    """One GGUF layer to be. ``files``: the parts of a split model by name; ``headers``: of all its files.

    ``converted``: made here from a checkpoint, in its final type and checked.
    ``more``: the layers of the further parts, where they stay apart.
    """

    part: Part
    headers: list[Header] = field(default_factory=list)
    files: dict[str, Digest] = field(default_factory=dict)
    converted: bool = False
    more: list[Part] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.part.layer.kind

    @property
    def size(self) -> int:
        return sum(header.size for header in self.headers) or self.part.layer.size

    @property
    def type_name(self) -> str:
        """F16 … as ``general.file_type`` says, else what most of the bytes are."""
        said = self.headers[0].file_type if self.headers else "unknown"
        if said != "unknown" or not self.is_plain:
            return said
        nbytes = dict.fromkeys(PLAIN, 0)
        for header in self.headers:
            for tensor in header.tensors:
                if tensor.type in nbytes:
                    nbytes[tensor.type] += tensor.nbytes
        return max(nbytes, key=lambda name: nbytes[name])

    @property
    def is_plain(self) -> bool:
        return all(tensor.type in (*PLAIN, *COUNTERS) for header in self.headers for tensor in header.tensors)

    def rewrite_as(self, request: CreateRequest) -> str:
        """COPY, a type, or "" for a layer that stays as it is. The errors are Ollama's, status 500."""
        if self.converted:
            return ""
        given = {"model": request.quantize, "draft": request.draft_quantize}.get(self.kind, "")
        if given:
            wanted = quantization(given)
            again = self.kind == "model" and bool(request.tensor_types)
            if (self.type_name != wanted or again) and not (self.is_plain or request.allow_requantize):
                raise ServerError(self._quantized_already())
            if self.type_name != wanted or again:
                return wanted
        if self.part.fresh and (self.files or self.kind == "model") and not self._embedded:
            return "COPY"
        return ""

    def _quantized_already(self) -> str:
        said = (
            "quantization is only supported for F16, BF16 and F32 models"
            if self.kind == "model"
            else f"draft quantization requires an unquantized draft model, got {self.type_name}"
        )
        return f"{said}; allow_requantize quantizes it anew, with the loss of both"

    @property
    def _embedded(self) -> bool:
        return any(tensor.name.startswith(EMBEDDED) for header in self.headers for tensor in header.tensors)

    def adopt(self, library: Library, path: Path, pins: ExitStack) -> Part:
        """The part that a converter's output makes."""
        digest, created = library.blobs.adopt(path)
        pins.enter_context(library.pin([digest]))
        header = read(library.blobs, digest)
        return Part(Layer(self.part.layer.media_type, digest, header.size), status_of(digest, created), header)


def quantization(given: str) -> str:
    """The type of this name, in any case. Ollama's error, status 500."""
    wanted = file_type_named(given.upper())
    if wanted is None:
        raise ServerError(
            f"unsupported quantization type {given.upper()} - supported types are {', '.join(FILE_NUMBERS)}"
        )
    return wanted


class Sources:
    """Gathers weights and inherited layers. ``pins`` keeps every blob in hand from being pruned meanwhile."""

    def __init__(self, library: Library, pins: ExitStack) -> None:
        self._library = library
        self._blobs = library.blobs
        self._pins = pins
        self.base: Record | None = None
        self.weights: list[Weights] = []
        self.others: list[Part] = []
        self.uploaded: list[Weights] = []

    def find_base(self, name: str) -> Record | None:
        return self._library.find(parse_name(name))

    def add_base(self, name: str) -> None:
        """All layers of an installed model."""
        with self._library.unchanged():
            record = self.find_base(name)
            if record is None:
                raise ModelNotFound(f"model '{name}' not found")
            if record.problem is not None:
                raise record.problem
            self._pins.enter_context(self._library.pin(record.manifest.blobs()))
        self.base = record
        for layer in record.manifest.layers:
            part = taken_over(layer, record.entry.name.short())
            if layer.kind in GGUF_KINDS:
                self._take_over(part, self._library.header(layer.digest), record.header)
            else:
                if not self._blobs.has(layer.digest):
                    raise StoreError(f"blob {layer.digest} is missing; create or pull {name} again")
                self.others.append(part)

    def _take_over(self, part: Part, header: Header, whole: Header | None) -> None:
        """A layer of the base; those of a split model become one."""
        first = next((w for w in self.weights if w.kind == part.layer.kind == "model"), None)
        if header.split_count == 1 or first is None:
            shown = whole if header.split_count > 1 and whole is not None else header
            self.weights.append(Weights(Part(part.layer, part.status, shown), [header]))
        else:
            first.more.append(Part(part.layer, part.status, header))
            first.headers.append(header)
        if header.split_count > 1:
            split = SplitName("model", (header.integer("split.no") or 0) + 1, header.split_count)
            self.weights[-1].files[split.file(split.index)] = part.layer.digest

    def add_files(self, files: Mapping[str, Digest]) -> Generator[str, None, None]:
        found = yield from self._ggufs(files, "")
        if self.base is not None and any(w.kind == "model" for w in found):
            raise InvalidRequest("'from' and 'files' both name a model; give one of them")
        self.uploaded = found
        self.weights += found

    def add_converted(self, digest: Digest, created: bool, kind: str, *, final: bool) -> None:
        """A GGUF made of a checkpoint's files; ``kind``: model, draft or adapter. ``final``: in its last type."""
        self._pins.enter_context(self._library.pin([digest]))
        header = read(self._blobs, digest)
        if kind == "model" and self.base is not None:
            raise InvalidRequest("'from' and 'files' both name a model; give one of them")
        layer = Layer(LAYER_TYPE + kind, digest, header.size)
        weights = Weights(Part(layer, status_of(digest, created), header), [header], converted=final)
        if kind == "adapter":
            check_adapter(header, self.model().headers)
        elif kind == "model":
            self.uploaded = [weights]
        self.weights.append(weights)

    def model(self) -> Weights:
        """The model that adapters are for. InvalidRequest when there is none."""
        found = next((w for w in self.weights if w.kind == "model"), None)
        if found is None:
            raise InvalidRequest("no base model was found")
        return found

    def add_drafts(self, files: Mapping[str, Digest]) -> Generator[str, None, None]:
        self.weights += yield from self._ggufs(files, "draft")

    def add_adapters(self, files: Mapping[str, Digest]) -> Generator[str, None, None]:
        if len(files) > 1:
            raise InvalidRequest("only one adapter is currently supported")
        found = yield from self._ggufs(files, "adapter")
        model = self.model()
        for adapter in found:
            check_adapter(adapter.headers[0], model.headers)
        self.weights += found

    def check(self) -> None:
        models = [w for w in self.weights if w.kind == "model"]
        if not models:
            raise InvalidRequest("no base model was found: the files hold no model, only parts of one")
        if self.base is None and len(models) > 1:
            raise InvalidRequest("more than one model was given; split models must be named m-00001-of-00002.gguf …")
        self.weights.sort(key=lambda w: GGUF_KINDS.index(w.kind))

    def _ggufs(self, files: Mapping[str, Digest], kind: str) -> Generator[str, None, list[Weights]]:
        """Yields a progress line before each file; returns what the files make together."""
        _check_file_type(files, self._blobs)
        whole: list[Weights] = []
        groups: dict[tuple[str, int], dict[int, tuple[str, Digest, Header]]] = {}
        for path, digest in files.items():
            yield "parsing GGUF"
            self._pins.enter_context(self._library.pin([digest]))
            header = read(self._blobs, digest)
            name = path.rpartition("/")[2]
            count = header.integer("split.count") or 0
            if count > 1:
                split = _split_name(name, count, header)
                groups.setdefault((split.prefix, count), {})[split.index] = (name, digest, header)
            else:
                layer = Layer(LAYER_TYPE + _kind(header, kind), digest, header.size, name)
                whole.append(Weights(Part(layer, status_of(digest, created=False), header, fresh=True), [header]))
        return [*whole, *(_joined(parts, count, kind) for (_, count), parts in groups.items())]


def read(blobs: Blobs, digest: Digest) -> Header:
    """The checked header of a blob: InvalidRequest for what is wrong with the file."""
    if not blobs.has(digest):
        raise StoreError(f"open {blobs.path(digest)}: no such file or directory")
    try:
        return gguf.read_header(blobs.path(digest))
    except GGUFError as error:
        raise InvalidRequest(str(error)) from None
    except OSError as error:
        raise StoreError(f"reading blob {digest}: {(error.strerror or 'input/output error').lower()}") from error


def _check_file_type(files: Mapping[str, Digest], blobs: Blobs) -> None:
    """By the first file, as Ollama: its ending, else its first bytes."""
    for path, digest in files.items():
        if path.endswith(".gguf"):
            return
        if blobs.has(digest):
            with blobs.open(digest) as file:
                if file.read(4) == b"GGUF":
                    return
        break
    raise InvalidRequest("unknown type")


def _kind(header: Header, wanted: str) -> str:
    """The layer's kind by what the file says it is; ``wanted`` is what the client said that it is."""
    found = header.kind
    if header.text("general.type") in ("projector", "mmproj"):
        found = "projector"
    if wanted == "adapter" and found != "adapter":
        raise InvalidRequest("the file given as adapter is no LoRA adapter in GGUF format")
    return wanted or found


def _split_name(name: str, count: int, header: Header) -> SplitName:
    split = SplitName.parse(name)
    if split is None or split.count != count:
        raise InvalidRequest(f'invalid split GGUF: "{name}" must be named like model-00001-of-{count:05d}.gguf')
    if header.integer("split.no") != split.index - 1:
        raise InvalidRequest(f'invalid split GGUF: "{name}" says that it is another part')
    return split


def _joined(parts: Mapping[int, tuple[str, Digest, Header]], count: int, kind: str) -> Weights:
    """One layer to be of all parts; its digest is known only once llama.cpp has written it."""
    if sorted(parts) != list(range(1, count + 1)):
        raise InvalidRequest(f"invalid split GGUF: {len(parts)} of {count} parts were given; upload all of them")
    name, digest, header = parts[1]
    headers = [parts[index][2] for index in sorted(parts)]
    layer = Layer(LAYER_TYPE + _kind(header, kind), digest, header.size, name)
    return Weights(Part(layer, "", header, fresh=True), headers, {n: d for n, d, _ in parts.values()})


def check_adapter(adapter: Header, base: list[Header]) -> None:
    """InvalidRequest unless every matrix of the LoRA fits a tensor of the base."""
    if adapter.architecture != base[0].architecture:
        raise InvalidRequest(
            f'the adapter is for the architecture "{adapter.architecture}", the model is "{base[0].architecture}"'
        )
    tensors = {tensor.name: tensor.shape for header in base for tensor in header.tensors}
    mine = {tensor.name: tensor.shape for tensor in adapter.tensors}
    for name, a in mine.items():
        target = name.removesuffix(".lora_a")
        if target == name or target.startswith("token_embd."):
            continue
        b, shape = mine.get(f"{target}.lora_b", ()), tensors.get(target, ())
        if len(a) < 2 or len(b) < 2 or len(shape) < 2 or (a[0], b[1], a[1]) != (shape[0], shape[1], b[0]):
            raise InvalidRequest(
                f'the adapter does not fit the model: tensor "{target}" has another shape or is absent'
            )
