"""Writes GGUF files byte by byte, wrong ones too: any count, length, type or offset can be given as it must not be."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CODES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?"}
CODES |= {"u64": "Q", "i64": "q", "f64": "d"}
NUMBERS = {"u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "string": 8, "array": 9}
NUMBERS |= {"u64": 10, "i64": 11, "f64": 12}


def string(text: str | bytes, length: int | None = None) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def value(kind: str, content: Any) -> bytes:
    """``kind`` is a scalar type, ``string`` or ``[type]``; the type number comes first."""
    if kind.startswith("["):
        item = kind[1:-1]
        items = b"".join(value(item, c)[4:] for c in content)
        return struct.pack("<IIQ", NUMBERS["array"], NUMBERS[item], len(content)) + items
    body = string(content) if kind == "string" else struct.pack("<" + CODES[kind], content)
    return struct.pack("<I", NUMBERS[kind]) + body


@dataclass
class Tensor:
    name: str = "t"
    shape: tuple[int, ...] = (32,)
    type: int = 0
    offset: int | None = None
    nbytes: int = 128
    n_dims: int | None = None


@dataclass
class Maker:
    """A good file unless told otherwise. ``keys``: (name, raw value with its type) pairs."""

    magic: bytes = b"GGUF"
    version: int = 3
    n_tensors: int | None = None
    n_keys: int | None = None
    keys: list[tuple[bytes, bytes]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    alignment: int = 32
    data: bytes | None = None

    def key(self, name: str, kind: str, content: Any) -> Maker:
        self.keys.append((string(name), value(kind, content)))
        return self

    def tensor(self, **changes: Any) -> Maker:
        self.tensors.append(Tensor(**changes))
        return self

    def bytes(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_keys = len(self.keys) if self.n_keys is None else self.n_keys
        out = self.magic + struct.pack("<IQQ", self.version, n_tensors % 2**64, n_keys % 2**64)
        out += b"".join(name + content for name, content in self.keys)
        at = 0
        for t in self.tensors:
            n_dims = len(t.shape) if t.n_dims is None else t.n_dims
            offset = at if t.offset is None else t.offset
            shape = b"".join(struct.pack("<Q", n % 2**64) for n in t.shape)
            out += string(t.name) + struct.pack("<I", n_dims) + shape + struct.pack("<IQ", t.type, offset % 2**64)
            at += -(-t.nbytes // self.alignment) * self.alignment
        out += b"\0" * (-len(out) % self.alignment)
        return out + (b"\0" * at if self.data is None else self.data)

    def write(self, folder: Path) -> Path:
        path = folder / "made.gguf"
        path.write_bytes(self.bytes())
        return path


def llama(**settings: int) -> Maker:
    """The metadata of a small llama."""
    numbers = {"context_length": 64, "embedding_length": 64, "block_count": 2, "attention.head_count": 4} | settings
    maker = Maker().key("general.architecture", "string", "llama")
    for name, number in numbers.items():
        maker.key(f"llama.{name}", "u32", number)
    return maker
