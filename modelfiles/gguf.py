"""A bounded reader of GGUF headers: nothing is believed that the real size of the file does not allow.

``read_header`` reads metadata and tensor descriptions, checks them (also by ``gguf_checks``) and never touches the
weights. Big arrays stay on disk until somebody asks for their ``values()``. Only ``GGUFError`` comes out for what is in
a file; an ``OSError`` means that it could not be opened or read.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from modelfiles import gguf_checks
from modelfiles.errors import GGUFError
from modelfiles.gguf_cursor import Cursor, shown, split_strings
from modelfiles.gguf_types import (
    ARRAY,
    FILE_TYPES,
    GUESSED,
    MAGIC,
    POOLING,
    SCALARS,
    STRING,
    TENSOR_TYPES,
    VERSIONS,
    size_text,
)

MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_KEY = 65_535
MAX_NAME = 63  # ggml's own limit, its NUL apart
MAX_STRING = 16 * 2**20
MAX_TEXT = 64 * 2**20  # all plain strings of one header together: they are held in memory
MAX_TOKEN = 64 * 2**10
MAX_ELEMENTS = 64 * 2**20
MAX_DIMENSION = 2**40
MAX_DIMENSIONS = 4
INLINE = 8192  # bytes of a number array that are kept rather than read again
DEFAULT_ALIGNMENT = 32
SENTENCEPIECE = "llama"  # the kind of tokenizer that spells unknown text in bytes
ALIGNMENTS = frozenset(2**n for n in range(3, 17))

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class GGUFArray:
    """An array that stays in the file. ``type`` is the elements': ``string``, ``i32``, ``f32`` …"""

    type: str
    length: int
    path: Path
    offset: int
    nbytes: int
    inline: bytes | None = None

    def values(self) -> list[int] | list[float] | list[str]:
        """All elements, read now. Broken UTF-8 becomes U+FFFD."""
        if self.type == "string":
            return [text.decode("utf-8", "replace") for text in self.strings()]
        return list(struct.unpack(f"<{self.length}{CODES[self.type]}", self._read()))

    def strings(self) -> list[bytes]:
        """The elements of a ``string`` array as they are in the file."""
        return split_strings(self._read(), self.length)

    def _read(self) -> bytes:
        if self.inline is not None:
            return self.inline
        with _open(self.path) as file:
            file.seek(self.offset)
            raw = file.read(self.nbytes)
        if len(raw) != self.nbytes:
            raise GGUFError("the file has become shorter since its header was read")
        return raw


CODES = dict(SCALARS.values())
Value = Scalar | GGUFArray


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """``offset`` counts from the start of the tensor data; ``shape`` has the fastest dimension first."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class Header:
    """``types`` are the value types by key (``u32``, ``string``, ``array``); ``data`` is where tensor data begins."""

    path: Path
    version: int
    metadata: Mapping[str, Value]
    types: Mapping[str, str]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data: int
    size: int

    def text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def setting(self, name: str) -> int | None:
        """An integer of this architecture: ``setting("block_count")``; of a per-layer array, the largest."""
        layers = self.per_layer(name)
        return max(layers) if layers else self.integer(f"{self.architecture}.{name}")

    def per_layer(self, name: str) -> tuple[int, ...]:
        """The values of an array of integers, () where the key is absent or one number for all layers."""
        value = self.metadata.get(f"{self.architecture}.{name}")
        if not isinstance(value, GGUFArray) or value.inline is None:
            return ()
        return tuple(int(v) for v in value.values())

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or ""

    @property
    def split_count(self) -> int:
        """Of how many files this is one; 1 for a file that is whole."""
        return max(self.integer("split.count") or 1, 1)

    @property
    def kind(self) -> str:
        """``model``, ``adapter`` (LoRA) or ``projector``."""
        if self.text("general.type") == "adapter":
            return "adapter"
        return "projector" if self.architecture == "clip" else "model"

    @property
    def parameter_count(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def parameter_size(self) -> str:
        return size_text(self.parameter_count)

    @property
    def file_type(self) -> str:
        number = self.integer("general.file_type")
        return "unknown" if number is None else FILE_TYPES.get(number & ~GUESSED, "unknown")

    @property
    def context_length(self) -> int:
        return self.setting("context_length") or 0

    @property
    def embedding_length(self) -> int:
        return self.setting("embedding_length") or 0

    @property
    def block_count(self) -> int:
        return self.setting("block_count") or 0

    @property
    def head_count(self) -> int:
        return self.setting("attention.head_count") or 0

    @property
    def head_count_kv(self) -> int:
        heads = self.setting("attention.head_count_kv")
        return self.head_count if heads is None else heads

    @property
    def key_length(self) -> int:
        return self._head_length("attention.key_length")

    @property
    def value_length(self) -> int:
        return self._head_length("attention.value_length")

    def _head_length(self, name: str) -> int:
        given = self.setting(name)
        if given is not None:
            return given
        return self.embedding_length // self.head_count if self.head_count else 0

    @property
    def vocabulary_size(self) -> int:
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.length if isinstance(tokens, GGUFArray) else self.setting("vocab_size") or 0

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template")

    @property
    def pooling(self) -> str | None:
        """None for a model that says nothing about pooling: it is no embedding model."""
        number = self.setting("pooling_type")
        return None if number is None else POOLING.get(number, "none")

    @property
    def bos(self) -> int | None:
        return self._token("bos")

    @property
    def eos(self) -> int | None:
        return self._token("eos")

    def _token(self, name: str) -> int | None:
        number = self.integer(f"tokenizer.ggml.{name}_token_id")
        return number if number is not None and 0 <= number < self.vocabulary_size else None


def read_header(path: str | os.PathLike[str]) -> Header:
    """The checked header of the GGUF at ``path``."""
    where = Path(path)
    with _open(where) as file:
        cursor = Cursor(file, os.fstat(file.fileno()).st_size)
        version, n_tensors, n_keys = _preamble(cursor)
        metadata, types = _metadata(cursor, where, n_keys)
        gguf_checks.check(metadata, types)
        alignment = _alignment(metadata, types)
        tensors = _tensors(cursor, n_tensors, alignment)
        data = -(-cursor.tell() // alignment) * alignment
        if tensors and data + max(t.offset + t.nbytes for t in tensors) > cursor.size:
            raise GGUFError("the file is cut short: its tensors end behind its end")
        return Header(
            where, version, MappingProxyType(metadata), MappingProxyType(types), tensors, alignment, data, cursor.size
        )


def join(parts: Sequence[Header]) -> Header:
    """What the files of a split model say together: the first one's metadata, all their tensors.

    GGUFError unless they are all the parts of one model, in order.
    """
    first, names = parts[0], set[str]()
    for number, part in enumerate(parts):
        if part.split_count != len(parts) or part.integer("split.no") != number:
            raise GGUFError(
                f"part {number + 1} of {first.split_count} of a split model is missing or in the wrong place"
            )
        mine = {tensor.name for tensor in part.tensors}
        if not mine.isdisjoint(names):
            raise GGUFError("a tensor is in two parts of a split model")
        names |= mine
    return replace(first, tensors=tuple(tensor for part in parts for tensor in part.tensors))


def check_loadable(header: Header) -> None:
    """What llama.cpp would end its whole process on, and a header alone does not show. Once per file, before a load."""
    for tensor in header.tensors:
        flat = len(tensor.shape) == 1 and tensor.name.endswith(("norm.weight", ".bias"))
        if flat and tensor.type != "F32" and header.kind == "model":
            raise GGUFError(f"tensor {shown(tensor.name)} must be F32, not {tensor.type}")
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, GGUFArray):
        # It reads each up to a NUL, and makes up a name for an empty one.
        names = {text.partition(b"\0")[0] or b"[EMPTY_%d]" % at for at, text in enumerate(tokens.strings())}
        if len(names) != tokens.length:
            raise GGUFError("the vocabulary has a token twice")
        missing = [byte for byte in range(256) if not {b"<0x%02X>" % byte, bytes([byte])} & names]
        if missing and header.text("tokenizer.ggml.model") == SENTENCEPIECE:
            raise GGUFError(f"the vocabulary has no token for {len(missing)} of the 256 bytes")
    if header.kind == "model" and header.text("tokenizer.ggml.model") == "none":
        raise GGUFError("the model has no tokenizer: it can neither read nor write text")


def _open(path: Path) -> BinaryIO:
    """Regular files only; a pipe or a device must not hold anybody up."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise GGUFError("not a regular file")
    return io.FileIO(handle, "rb")


def _preamble(cursor: Cursor) -> tuple[int, int, int]:
    if cursor.size < 24 or cursor.take(4) != MAGIC:
        raise GGUFError("supplied file was not in GGUF format")
    version = cursor.u32()
    if version not in VERSIONS:
        if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
            raise GGUFError("big-endian GGUF files are not supported")
        raise GGUFError(f"GGUF version {version} is not supported; versions 2 and 3 are")
    n_tensors, n_keys = cursor.u64(), cursor.u64()
    if n_tensors > MAX_TENSORS:
        raise GGUFError(f"{n_tensors} tensors are over the limit of {MAX_TENSORS}")
    if n_keys > MAX_KEYS:
        raise GGUFError(f"{n_keys} metadata keys are over the limit of {MAX_KEYS}")
    return version, n_tensors, n_keys


def _metadata(cursor: Cursor, path: Path, count: int) -> tuple[dict[str, Value], dict[str, str]]:
    metadata: dict[str, Value] = {}
    types: dict[str, str] = {}
    text = 0
    for _ in range(count):
        key = cursor.name(MAX_KEY, "a metadata key")
        if key in metadata:
            raise GGUFError(f"metadata key {shown(key)} is there twice")
        number = cursor.u32()
        if number in SCALARS:
            name, code = SCALARS[number]
            types[key], metadata[key] = name, cursor.number(code)
        elif number == STRING:
            raw = cursor.string(MAX_STRING, f"metadata {shown(key)}")
            text += len(raw)
            if text > MAX_TEXT:
                raise GGUFError(f"the strings of the metadata are over {MAX_TEXT} bytes")
            types[key], metadata[key] = "string", raw.decode("utf-8", "replace")
        elif number == ARRAY:
            types[key], metadata[key] = "array", _array(cursor, path, key)
        else:
            raise GGUFError(f"metadata {shown(key)} has the unknown type {number}")
    return metadata, types


def _array(cursor: Cursor, path: Path, key: str) -> GGUFArray:
    number, length = cursor.u32(), cursor.u64()
    if number != STRING and number not in SCALARS:
        raise GGUFError(f"metadata {shown(key)} is an array of the unknown or nested type {number}")
    if length > MAX_ELEMENTS:
        raise GGUFError(f"metadata {shown(key)} has {length} elements; the limit is {MAX_ELEMENTS}")
    offset = cursor.tell()
    if number == STRING:
        limit = MAX_TOKEN if key == "tokenizer.ggml.tokens" else MAX_STRING
        cursor.skip_strings(length, limit, f"metadata {shown(key)}")
        return GGUFArray("string", length, path, offset, cursor.tell() - offset)
    name, code = SCALARS[number]
    nbytes = length * struct.calcsize("<" + code)
    if nbytes <= INLINE:
        return GGUFArray(name, length, path, offset, nbytes, cursor.take(nbytes))
    cursor.skip(nbytes)
    return GGUFArray(name, length, path, offset, nbytes)


def _alignment(metadata: Mapping[str, Value], types: Mapping[str, str]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if types.get("general.alignment", "u32") != "u32" or value not in ALIGNMENTS:
        raise GGUFError("general.alignment must be a u32 and a power of two from 8 to 65536")
    return int(str(value))


def _tensors(cursor: Cursor, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    """In the order of the file, each where the one before it ends: llama.cpp reads no other."""
    tensors: dict[str, TensorInfo] = {}
    expected = 0
    for _ in range(count):
        tensor = _tensor(cursor)
        if tensor.name in tensors:
            raise GGUFError(f"tensor {shown(tensor.name)} is there twice")
        if tensor.offset != expected:
            raise GGUFError(f"tensor {shown(tensor.name)} has offset {tensor.offset}, expected {expected}")
        expected += -(-tensor.nbytes // alignment) * alignment
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _tensor(cursor: Cursor) -> TensorInfo:
    name = cursor.name(MAX_NAME, "a tensor name")
    n_dimensions = cursor.u32()
    if not 1 <= n_dimensions <= MAX_DIMENSIONS:
        raise GGUFError(f"tensor {shown(name)} has {n_dimensions} dimensions")
    shape = struct.unpack(f"<{n_dimensions}Q", cursor.take(8 * n_dimensions))
    number, offset = cursor.u32(), cursor.u64()
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        raise GGUFError(f"tensor {shown(name)} has the unknown type {number}")
    elements = 1
    for size in shape:
        if not 1 <= size <= MAX_DIMENSION:
            raise GGUFError(f"tensor {shown(name)} has a dimension of {size}")
        elements *= size
    if shape[0] % kind.block:
        raise GGUFError(f"tensor {shown(name)} has rows of {shape[0]}, no multiple of the {kind.block} of {kind.name}")
    nbytes = elements // kind.block * kind.size
    if elements >= 2**63 or nbytes >= 2**63:
        raise GGUFError(f"tensor {shown(name)} is too big")
    return TensorInfo(name, shape, kind.name, offset, nbytes)
