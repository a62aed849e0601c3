"""What a model reads while its importance matrix is computed: chunks of tokens, of given texts or of its own words."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from converters.errors import ConversionFailed, InvalidSource

CHUNK = 512
FEWEST = 256
SELF_CHUNKS = 32
PARALLEL = 8
CHOICES = 100  # tokens that a step of the model's own writing may choose from
SEED = 20_26
MAX_TEXT = 1 << 30

Tokens = NDArray[np.int32]
Report = Callable[[int, int], None]


@contextmanager
def context(model: Any, *, window: int, threads: int, sequences: int = 1, watch: Any = None) -> Iterator[Any]:
    """A context of exact arithmetic: a matrix should not depend on how the KV cache is stored. ``threads`` 0: all."""
    params = lib.llama_context_default_params()
    params.n_ctx = window * sequences
    params.n_batch = params.n_ubatch = max(window if sequences == 1 else sequences, 32)
    params.n_seq_max = sequences
    params.type_k = params.type_v = 0  # F32
    params.flash_attn_type = 0
    params.n_threads = params.n_threads_batch = threads or _cores()
    params.no_perf = True
    if watch is not None:
        params.cb_eval = watch
    pointer = lib.llama_init_from_model(model, params)
    if not pointer:
        raise ConversionFailed("not enough memory to run the model for its importance matrix; close other programs")
    try:
        yield pointer
    finally:
        lib.llama_free(pointer)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode(pointer: Any, tokens: Tokens, positions: Tokens, sequences: Tokens) -> int:
    """One batch, every row an output: else the last layers would see only the rows that are asked for."""
    count = len(tokens)
    one, outputs = np.ones(count, np.int32), np.ones(count, np.int8)
    places = (sequences.ctypes.data + 4 * np.arange(count)).astype(np.int64)

    def at(array: NDArray[Any], kind: Any) -> Any:
        return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

    batch = lib.llama_batch(
        count,
        at(tokens, ctypes.c_int32),
        None,
        at(positions, ctypes.c_int32),
        at(one, ctypes.c_int32),
        at(places, ctypes.POINTER(ctypes.c_int32)),
        at(outputs, ctypes.c_int8),
    )
    return int(lib.llama_decode(pointer, batch))


def of_texts(model: Any, paths: Iterable[Path], chunk: int, most: int) -> list[Tokens]:
    """Chunks of ``chunk`` tokens (the last may be shorter), at most ``most`` unless 0, each from the beginning of a
    text on as far as the model is concerned. InvalidSource when it is too little."""
    vocabulary = lib.llama_model_get_vocab(model)
    tokens = np.concatenate([np.empty(0, np.int32), *(tokenize(vocabulary, _text(path)) for path in paths)])
    if len(tokens) < FEWEST:
        raise InvalidSource(
            f"the calibration text has {len(tokens)} tokens; at least {FEWEST} are needed, and some 50,000 are better"
        )
    start = [lib.llama_vocab_bos(vocabulary)] if lib.llama_vocab_get_add_bos(vocabulary) else []
    step = chunk - len(start)
    pieces = [tokens[at : at + step] for at in range(0, len(tokens), step)]
    if len(pieces) > 1 and len(pieces[-1]) < FEWEST // 16:
        pieces.pop()
    return [np.array([*start, *piece], np.int32) for piece in pieces[: most or None]]


def tokenize(vocabulary: Any, text: bytes) -> Tokens:
    most = len(text) + 8
    tokens = np.empty(most, np.int32)
    place = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    count = lib.llama_tokenize(vocabulary, text, len(text), place, most, False, False)
    if count < 0:
        raise ConversionFailed("the calibration text could not be tokenized")
    return tokens[:count]


def _text(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_TEXT:
            raise InvalidSource("the calibration text is over a GiB; some hundred kilobytes are enough")
        return path.read_bytes().decode("utf-8").encode()
    except UnicodeDecodeError:
        raise InvalidSource("the calibration text is not UTF-8") from None
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise InvalidSource(f"the calibration text cannot be read: {reason}") from error


def of_itself(model: Any, chunk: int, chunks: int, threads: int, report: Report) -> list[Tokens]:
    """What the model writes when it is left alone: drawn at temperature 1 from the likeliest tokens, the same every
    time, without end-of-text. InvalidSource for a model that writes nothing."""
    vocabulary = lib.llama_model_get_vocab(model)
    random = np.random.default_rng(SEED)
    written: list[Tokens] = []
    for first in range(0, chunks, PARALLEL):
        count = min(PARALLEL, chunks - first)

        def done(tokens: int, before: int = first * chunk) -> None:
            report(before + tokens, chunks * chunk)

        with context(model, window=chunk, threads=threads, sequences=count) as pointer:
            if not lib.llama_get_memory(pointer) or lib.llama_model_has_encoder(model):
                raise InvalidSource("this model writes no text of its own: give a calibration text")
            written += _write(pointer, vocabulary, chunk, count, random, done)
    return written


def _write(
    pointer: Any, vocabulary: Any, chunk: int, count: int, random: np.random.Generator, done: Callable[[int], None]
) -> list[Tokens]:
    size = lib.llama_vocab_n_tokens(vocabulary)
    ends = [token for token in range(size) if lib.llama_vocab_is_eog(vocabulary, token)]
    written = np.empty((count, chunk), np.int32)
    written[:, 0] = _first(vocabulary, size, count, random)
    sequences = np.arange(count, dtype=np.int32)
    for at in range(chunk - 1):
        step = np.ascontiguousarray(written[:, at])
        if decode(pointer, step, np.full(count, at, np.int32), sequences) != 0:
            raise ConversionFailed("llama.cpp could not run the model to have it write a calibration text")
        logits = np.ctypeslib.as_array(lib.llama_get_logits(pointer), (count, size)).copy()
        logits[:, ends] = -np.inf
        written[:, at + 1] = [_draw(row, random) for row in logits]
        done(count * (at + 2))
    return list(written)


def _first(vocabulary: Any, size: int, count: int, random: np.random.Generator) -> Tokens:
    """The token that every text of this model begins with, else any ones."""
    bos = lib.llama_vocab_bos(vocabulary)
    if bos >= 0 and lib.llama_vocab_get_add_bos(vocabulary):
        return np.full(count, bos, np.int32)
    normal = [token for token in range(size) if not lib.llama_vocab_is_control(vocabulary, token)]
    return random.choice(np.array(normal, np.int32), count)


def _draw(logits: NDArray[np.float32], random: np.random.Generator) -> int:
    best = np.argpartition(logits, -min(CHOICES, len(logits)))[-CHOICES:]
    weights = np.exp(logits[best].astype(np.float64) - logits[best].max())
    return int(best[np.searchsorted(np.cumsum(weights), random.random() * weights.sum())])
