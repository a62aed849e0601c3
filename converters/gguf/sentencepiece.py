"""Reads ``tokenizer.model``: the few fields of SentencePiece's protocol buffer that a vocabulary needs.

Format: google/sentencepiece ``sentencepiece_model.proto``; wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from converters.errors import InvalidSource

PIECES, TRAINER, NORMALIZER = 1, 2, 3
UNIGRAM = 1
MAX_PIECES = 2**22


@dataclass(frozen=True, slots=True)
class Piece:
    """``kind``: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte."""

    text: str
    score: float
    kind: int


@dataclass(slots=True)
class Model:
    pieces: list[Piece] = field(default_factory=list)
    unigram: bool = True
    space_prefix: bool = True
    squeeze: bool = True
    charsmap: bytes = b""


def parse(raw: bytes) -> Model:
    """InvalidSource when it is none."""
    model = Model()
    try:
        for number, value in _fields(raw):
            if number == PIECES and isinstance(value, bytes):
                model.pieces.append(_piece(value))
            elif number == TRAINER and isinstance(value, bytes):
                model.unigram = dict(_fields(value)).get(3, UNIGRAM) == UNIGRAM
            elif number == NORMALIZER and isinstance(value, bytes):
                found = dict(_fields(value))
                charsmap = found.get(2, b"")
                model.charsmap = charsmap if isinstance(charsmap, bytes) else b""
                model.space_prefix, model.squeeze = bool(found.get(3, 1)), bool(found.get(4, 1))
            if len(model.pieces) > MAX_PIECES:
                raise InvalidSource(f"tokenizer.model has more than {MAX_PIECES} pieces")
    except (IndexError, ValueError, struct.error):
        raise InvalidSource("tokenizer.model is no SentencePiece model") from None
    if not model.pieces:
        raise InvalidSource("tokenizer.model is no SentencePiece model: it has no pieces")
    return model


def _piece(raw: bytes) -> Piece:
    found = dict(_fields(raw))
    text, score, kind = found.get(1, b""), found.get(2, b"\0\0\0\0"), found.get(3, 1)
    if not isinstance(text, bytes) or not isinstance(score, bytes) or not isinstance(kind, int):
        raise ValueError("a piece of another shape")
    return Piece(text.decode("utf-8"), struct.unpack("<f", score)[0], kind)


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of one message: varints as numbers, the rest as bytes."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield tag >> 3, value
            continue
        size = 8 if kind == 1 else 4
        if kind == 2:
            size, at = _varint(raw, at)
        elif kind not in (1, 5):
            raise ValueError("unknown wire type")
        if at + size > len(raw):
            raise ValueError("cut short")
        yield tag >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a varint that does not end")
