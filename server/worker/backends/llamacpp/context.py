"""A llama_context: the KV memory of several sequences and the batches that are computed in it.

One stream of cells per sequence (not unified): idle sequences then cost a running one nothing. Rows of a batch
must be sorted by sequence; libllama splits a batch whose sequence ids are not consecutive. ``decode`` never
passes more than ``n_batch`` rows: libllama would abort.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.types import LoadOptions, MemoryUse
from server.worker.backends.llamacpp import pages
from server.worker.backends.llamacpp.library import Log, lib
from server.worker.backends.llamacpp.model import LoadError, Model

GGML_TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30,
}  # fmt: skip
STREAMS = struct.Struct("<I")
STATE_HEAD = 8
ABORTED = 2
NO_ROOM = 1

_libc = ctypes.CDLL(None)
_STRLEN = ctypes.cast(_libc.strlen, ctypes.c_void_p).value


class Batch:
    """A llama_batch whose arrays are numpy views: rows are written as slices, never one by one."""

    def __init__(self, size: int) -> None:
        self.token = np.zeros(size, np.int32)
        self.position = np.zeros(size, np.int32)
        self.sequence = np.zeros(size, np.int32)
        self.output = np.zeros(size, np.int8)
        self._one = np.ones(size, np.int32)
        at = self.sequence.ctypes.data + 4 * np.arange(size, dtype=np.int64)
        self._pointers = at.astype(np.int64)

        def pointer(array: NDArray[Any], kind: Any) -> Any:
            return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

        self.struct = lib.llama_batch(
            0,
            pointer(self.token, ctypes.c_int32),
            None,
            pointer(self.position, ctypes.c_int32),
            pointer(self._one, ctypes.c_int32),
            pointer(self._pointers, ctypes.POINTER(ctypes.c_int32)),
            pointer(self.output, ctypes.c_int8),
        )


class Context:
    """``sequences`` windows of ``window`` cells each, and one batch of at most ``n_batch`` rows at a time."""

    def __init__(
        self,
        model: Model,
        options: LoadOptions,
        *,
        window: int,
        sequences: int,
        threads: int,
        embeddings: bool = False,
        pooling: int = -1,
        unified: bool = False,
    ) -> None:
        self.model = model
        params = lib.llama_context_default_params()
        params.n_ctx = window if unified else window * sequences
        params.n_ubatch = max(options.num_batch, sequences)
        params.n_batch = params.n_ubatch
        params.n_seq_max = sequences
        params.n_outputs_max = 0 if embeddings else sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = -1 if options.flash_attention is None else int(options.flash_attention)
        kinds = options.kv_cache_type.split("/")
        params.type_k, params.type_v = GGML_TYPES[kinds[0]], GGML_TYPES[kinds[-1]]
        params.embeddings = embeddings
        params.pooling_type = pooling
        params.kv_unified = unified
        params.swa_full = True  # a window that was overwritten could not be cut back to a prefix
        params.no_perf = True
        with Log() as log, pages.Watch() as watch:
            self.pointer = lib.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise LoadError(_reason(log), memory=True)
        self.memory = lib.llama_get_memory(self.pointer)
        self.sequences = sequences
        self.window = int(lib.llama_n_ctx_seq(self.pointer))
        self.n_batch = int(lib.llama_n_batch(self.pointer))
        self.pooling = int(lib.llama_pooling_type(self.pointer))
        self.batch = Batch(self.n_batch)
        self.use = _memory_use(log, model.size)
        watch.release_zeros(self.use.kv)
        self._vocabulary = model.vocabulary.n_vocab
        self._view: tuple[int, int] = (0, 0)
        self._rows: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._abort = ctypes.create_string_buffer(2)
        self._install_abort()
        if model.adapters:
            self._set_adapters()

    def _install_abort(self) -> None:
        """libllama asks ``strlen(buffer)`` between graph nodes: one character in it means stop.

        A Python callback would cost about 1 µs per node (some ms per step); libc's own function costs nothing.
        """
        callback = ctypes.cast(ctypes.c_void_p(_STRLEN), lib.ggml_abort_callback)
        lib.llama_set_abort_callback(self.pointer, callback, ctypes.cast(self._abort, ctypes.c_void_p))

    def _set_adapters(self) -> None:
        count = len(self.model.adapters)
        adapters = (type(self.model.adapters[0]) * count)(*self.model.adapters)
        scales = (ctypes.c_float * count)(*([1.0] * count))
        if lib.llama_set_adapters_lora(self.pointer, adapters, count, scales):
            raise LoadError("the adapter cannot be applied to this model")

    def request_abort(self) -> None:
        """May be called from another thread: the decode under way ends within one graph node."""
        self._abort[0] = b"x"

    def clear_abort(self) -> None:
        self._abort[0] = b"\0"

    def decode(self, rows: int) -> int:
        """Computes the first ``rows`` rows of ``batch``: 0, ``NO_ROOM``, ``ABORTED`` or a negative error."""
        if not 0 < rows <= self.n_batch:
            raise ValueError(f"a batch has 1 to {self.n_batch} rows, not {rows}")
        self.batch.struct.n_tokens = rows
        return int(lib.llama_decode(self.pointer, self.batch.struct))

    def logits(self, outputs: int) -> NDArray[np.float32]:
        """(outputs, vocabulary) view of the raw logits of the rows with ``output`` set, in batch order.

        Writable, valid until the next ``decode``.
        """
        address = ctypes.cast(lib.llama_get_logits(self.pointer), ctypes.c_void_p).value or 0
        if self._view != (address, outputs):
            array = (ctypes.c_float * (outputs * self._vocabulary)).from_address(address)
            self._rows = np.ctypeslib.as_array(array).reshape(outputs, self._vocabulary)
            self._view = (address, outputs)
        return self._rows

    def embedding(self, sequence: int, width: int) -> NDArray[np.float32]:
        """A copy of the pooled embedding of ``sequence``."""
        pointer = lib.llama_get_embeddings_seq(self.pointer, sequence)
        if not pointer:
            raise RuntimeError("llama.cpp gave no embedding")
        return np.ctypeslib.as_array(pointer, (width,)).astype(np.float32, copy=True)

    # -- the cells of a sequence ------------------------------------------------------------------------

    def cut(self, sequence: int, start: int, end: int = -1) -> bool:
        """Forgets positions [start, end); False where this kind of memory cannot."""
        return bool(lib.llama_memory_seq_rm(self.memory, sequence, start, end))

    def forget(self, sequence: int) -> None:
        lib.llama_memory_seq_rm(self.memory, sequence, -1, -1)

    def slide(self, sequence: int, start: int, delta: int) -> None:
        """Moves positions from ``start`` on by ``delta``; only where ``can_slide``."""
        lib.llama_memory_seq_add(self.memory, sequence, start, -1, delta)

    @property
    def can_slide(self) -> bool:
        return bool(lib.llama_memory_can_shift(self.memory))

    def clear(self) -> None:
        if self.memory:
            lib.llama_memory_clear(self.memory, False)

    def snapshot(self, sequence: int) -> bytearray:
        """The state of a sequence, to be given back to ``restore`` (for any sequence of an equal context)."""
        size = lib.llama_state_seq_get_size(self.pointer, sequence)
        data = bytearray(size)
        view = (ctypes.c_uint8 * size).from_buffer(data)
        written = lib.llama_state_seq_get_data(self.pointer, view, size, sequence)
        if written != size:
            raise RuntimeError(f"llama.cpp wrote {written} of {size} bytes of a sequence's state")
        return data

    def restore(self, sequence: int, data: bytearray) -> bool:
        """Replaces the cells of ``sequence``; False if the state is not of an equal context.

        A state of a context with another number of sequences is fitted, where the model has one plain KV cache.
        """
        self.forget(sequence)
        if self.model.plain and STREAMS.unpack_from(data, STATE_HEAD)[0] != self.sequences:
            data = restream(data, self.sequences)
        view = (ctypes.c_uint8 * len(data)).from_buffer(data)
        return bool(lib.llama_state_seq_set_data(self.pointer, view, len(data), sequence))

    def close(self) -> None:
        if self.pointer:
            lib.llama_free(self.pointer)
            self.pointer = None


def restream(data: bytearray, streams: int) -> bytearray:
    """The state of one sequence as a context of ``streams`` streams would have written it.

    llama.cpp writes (llama_kv_cache::state_write) behind its head (magic, sequence id): the number of streams, then
    for each its count of cells, and behind a count that is not zero the cells. Only one stream holds cells.
    """
    (count,) = STREAMS.unpack_from(data, STATE_HEAD)
    at, held = STATE_HEAD + 4, 0
    while held < count and data[at : at + 4] == bytes(4):
        held, at = held + 1, at + 4
    body = memoryview(data)[at : len(data) - 4 * max(count - 1 - held, 0)]
    return bytearray(b"".join((data[:STATE_HEAD], STREAMS.pack(streams), body, bytes(4 * (streams - 1)))))


def _reason(log: list[str]) -> str:
    text = "".join(log)
    if "V cache quantization requires flash_attn" in text:
        return "a quantized V cache needs flash attention: set kv_cache_type to a pair such as q8_0/f16"
    if "does not divide" in text:
        return "this model's attention heads do not fit the blocks of that kv_cache_type: use f16"
    return "not enough memory for the context: lower num_ctx or num_parallel, or set kv_cache_type to q8_0"


def _memory_use(log: list[str], weights: int) -> MemoryUse:
    """Sizes as llama.cpp logs them: ``<buffer> KV buffer size = 12.00 MiB`` and the like."""
    import re

    kv = compute = gpu = 0
    for line in "".join(log).splitlines():
        found = re.search(r"(\S+)\s+(KV|RS|compute|output)\s+buffer size\s*=\s*([\d.]+) MiB", line)
        if not found:
            continue
        size = int(float(found.group(3)) * 2**20)
        if found.group(2) in ("KV", "RS"):
            kv += size
        else:
            compute += size
        if not found.group(1).startswith(("CPU", "BLAS")) and "_Host" not in found.group(1):
            gpu += size
    return MemoryUse(weights=weights, kv=kv, compute=compute, gpu=gpu)
