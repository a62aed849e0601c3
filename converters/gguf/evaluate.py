"""llama.cpp's own answers about a GGUF: token ids, logits, greedy text, embeddings.

Exact rather than quick: an F32 cache, no flash attention, one thread per call unless told otherwise. A bad file may
end the process, so this runs in one that nobody minds.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionFailed
from converters.gguf.library import Log, lib

Array = NDArray[np.float32]
F32 = 0
RANK = 4
MAX_TOKENS = 4096


class Loaded:
    """A model, or with ``vocab_only`` just its tokenizer. ConversionFailed in llama.cpp's words if it does not load."""

    def __init__(self, path: Path, *, vocab_only: bool = False, threads: int = 0) -> None:
        params = lib.llama_model_default_params()
        self._nothing = (ctypes.c_void_p * 1)(None)
        params.devices = ctypes.cast(self._nothing, ctypes.c_void_p)  # an empty list: no GPU is woken for this
        params.n_gpu_layers = 0
        params.use_extra_bufts = False  # repacked weights are another rounding
        params.vocab_only = vocab_only
        with Log() as log:
            self._model = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise ConversionFailed(f"llama.cpp cannot load the model: {log.reason(path)}")
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._threads = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads or 1
        self.n_vocab = int(lib.llama_vocab_n_tokens(self._vocab))
        self.adapter: Any = None

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        lib.llama_model_free(self._model)

    def tokenize(self, text: str, *, special: bool = False, parse: bool = False) -> list[int]:
        """``special``: with what is put around a text; ``parse``: special tokens in the text count as such."""
        raw = text.encode()
        room = len(raw) + 16
        tokens = (ctypes.c_int32 * room)()
        count = lib.llama_tokenize(self._vocab, raw, len(raw), tokens, room, special, parse)
        if count < 0:
            raise ConversionFailed("llama.cpp could not tokenize a text")
        return list(tokens[:count])

    def ends(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def attach(self, path: Path) -> None:
        """A LoRA adapter at scale 1. ConversionFailed when it does not fit."""
        with Log() as log:
            self.adapter = lib.llama_adapter_lora_init(self._model, os.fsencode(path))
        if not self.adapter:
            raise ConversionFailed(f"llama.cpp cannot load the adapter: {log.reason(path)}")

    def context(self, tokens: int, *, embeddings: bool = False) -> Context:
        return Context(self._model, tokens, self._threads, embeddings=embeddings, adapter=self.adapter)

    def logits(self, tokens: Sequence[int]) -> Array:
        """(tokens, vocabulary)"""
        with self.context(len(tokens)) as context:
            context.feed(tokens, every=True)
            return np.stack([context.row(i, self.n_vocab) for i in range(len(tokens))])

    def greedy(self, tokens: Sequence[int], count: int) -> tuple[list[int], list[float]]:
        """Up to ``count`` further tokens with the lead of each over the next best; the end token is the last."""
        made: list[int] = []
        leads: list[float] = []
        with self.context(len(tokens) + count) as context:
            context.feed(tokens, every=False)
            while len(made) < count:
                row = context.row(-1, self.n_vocab)
                second, first = np.sort(np.partition(row, -2)[-2:])
                made.append(int(row.argmax()))
                leads.append(float(first - second))
                if self.ends(made[-1]) or len(made) == count:
                    break
                context.feed(made[-1:], every=False)
        return made, leads

    def embed(self, tokens: Sequence[int]) -> Array:
        """The pooled embedding of one text; of a reranker its score."""
        with self.context(len(tokens), embeddings=True) as context:
            context.feed(tokens, every=True)
            ranks = lib.llama_pooling_type(context.pointer) == RANK
            size = int(lib.llama_model_n_cls_out(self._model) if ranks else lib.llama_model_n_embd(self._model))
            pointer = lib.llama_get_embeddings_seq(context.pointer, 0)
            if not pointer:
                raise ConversionFailed("llama.cpp gave no embedding")
            return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (size,)).copy()


class Context:
    def __init__(self, model: Any, tokens: int, threads: int, *, embeddings: bool, adapter: Any) -> None:
        if not 0 < tokens <= MAX_TOKENS:
            raise ConversionFailed(f"1 to {MAX_TOKENS} tokens are evaluated at a time, not {tokens}")
        params = lib.llama_context_default_params()
        params.n_ctx = -(-tokens // 256) * 256
        params.n_batch = params.n_ubatch = params.n_ctx
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = F32
        params.flash_attn_type = 0
        params.swa_full = True
        params.embeddings = embeddings
        params.no_perf = True
        with Log() as log:
            self.pointer = lib.llama_init_from_model(model, params)
        if not self.pointer:
            raise ConversionFailed(
                f"llama.cpp cannot use the model: {log.errors[-1] if log.errors else 'no reason given'}"
            )
        self._embeddings = embeddings
        self._position = 0
        self._batch = lib.llama_batch_init(params.n_batch, 0, 1)
        if adapter:
            adapters = (type(adapter) * 1)(adapter)
            if lib.llama_set_adapters_lora(self.pointer, adapters, 1, (ctypes.c_float * 1)(1.0)):
                raise ConversionFailed("llama.cpp cannot apply the adapter to this model")

    def __enter__(self) -> Context:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        lib.llama_batch_free(self._batch)
        lib.llama_free(self.pointer)

    def feed(self, tokens: Sequence[int], *, every: bool) -> None:
        """``every``: outputs of all tokens are kept, else the last one's."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, self._position + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = every or i == len(tokens) - 1
        self._position += len(tokens)
        if lib.llama_decode(self.pointer, batch) != 0:
            raise ConversionFailed("llama.cpp could not evaluate the model")

    def row(self, index: int, size: int) -> Array:
        pointer = lib.llama_get_logits_ith(self.pointer, index)
        if not pointer:
            raise ConversionFailed("llama.cpp gave no logits")
        return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (size,)).copy()
