"""A model file in memory and its vocabulary, through libllama.

Knows nothing of sequences or sampling. Every argument is range-checked here before ctypes sees it: libllama
aborts the process on some of them. Paths never appear in an error's text.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from server.types import LoadOptions
from server.worker.backends.llamacpp.library import Log, lib

MAX_TEXT = 2**31 - 1
ALL_LAYERS = 100_000
_ATTRIBUTE_HIDDEN = 1 << 3  # LLAMA_TOKEN_ATTR_CONTROL


class LoadError(Exception):
    """The model cannot be put into memory. ``memory``: it might, with more of it or smaller options."""

    def __init__(self, message: str, *, memory: bool = False) -> None:
        super().__init__(message)
        self.memory = memory


class Vocabulary:
    """Text ⇄ token ids of one model. Pieces are cached; ``pointer`` is valid as long as the model lives."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer
        self.n_vocab: int = lib.llama_vocab_n_tokens(pointer)
        self.add_bos: bool = bool(lib.llama_vocab_get_add_bos(pointer))
        self.add_eos: bool = bool(lib.llama_vocab_get_add_eos(pointer))
        self.bos: int = lib.llama_vocab_bos(pointer)
        self.eos: int = lib.llama_vocab_eos(pointer)
        self._pieces: list[bytes | None] = [None] * self.n_vocab
        self._eog: frozenset[int] | None = None
        self._buffer = ctypes.create_string_buffer(512)

    @property
    def eog(self) -> frozenset[int]:
        """Every token that ends a generation."""
        if self._eog is None:
            is_eog, pointer = lib.llama_vocab_is_eog, self.pointer
            self._eog = frozenset(t for t in self._candidates() if is_eog(pointer, t))
        return self._eog

    def _candidates(self) -> list[int]:
        """Tokens that may be end-of-generation ones: only special ones are, so normal ones need no call."""
        attribute, pointer = lib.llama_vocab_get_attr, self.pointer
        if self.n_vocab <= 4096:
            return list(range(self.n_vocab))
        special = {lib.llama_vocab_eos(pointer), lib.llama_vocab_eot(pointer)} - {-1}
        special.update(t for t in range(self.n_vocab) if attribute(pointer, t) & ~4)  # 4 = plain text
        return sorted(special)

    def piece(self, token: int) -> bytes:
        """The bytes of ``token``, special tokens spelled out."""
        if not 0 <= token < self.n_vocab:
            raise ValueError(f"there is no token {token} in a vocabulary of {self.n_vocab}")
        piece = self._pieces[token]
        if piece is None:
            piece = self._pieces[token] = self._spell(token)
        return piece

    def _spell(self, token: int) -> bytes:
        size = lib.llama_token_to_piece(self.pointer, token, self._buffer, len(self._buffer), 0, True)
        if size < 0:
            self._buffer = ctypes.create_string_buffer(-size)
            size = lib.llama_token_to_piece(self.pointer, token, self._buffer, len(self._buffer), 0, True)
        return self._buffer.raw[:size]

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        raw = text.encode("utf-8", "replace")
        if len(raw) > MAX_TEXT:
            raise ValueError("the text is longer than 2 GiB")
        room = len(raw) + 8 if len(raw) < 1024 else len(raw) // 2 + 8
        while True:
            tokens = (ctypes.c_int32 * room)()
            size = lib.llama_tokenize(self.pointer, raw, len(raw), tokens, room, add_special, parse_special)
            if size >= 0:
                return tokens[:size]
            if size == -(2**31):
                raise ValueError("the text has more tokens than this machine can count")
            room = -size

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str:
        if any(not 0 <= token < self.n_vocab for token in tokens):
            raise ValueError(f"token ids must be between 0 and {self.n_vocab - 1}")
        given = (ctypes.c_int32 * len(tokens))(*tokens)
        room = 8 * len(tokens) + 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = lib.llama_detokenize(self.pointer, given, len(tokens), buffer, room, False, special)
            if size >= 0:
                return buffer.raw[:size].decode("utf-8", "replace")
            room = -size


def _load(paths: Sequence[str], params: Any) -> Any:
    if len(paths) == 1:
        return lib.llama_model_load_from_file(paths[0].encode(), params)
    given = (ctypes.c_char_p * len(paths))(*(path.encode() for path in paths))
    return lib.llama_model_load_from_splits(given, len(paths), params)


class Model:
    """Weights (or only the vocabulary) of a GGUF file. ``close`` frees them; contexts must be gone before.

    ``parts``: the further files of split weights in their order, whatever they are called.
    """

    def __init__(
        self,
        path: str,
        options: LoadOptions,
        *,
        parts: Sequence[str] = (),
        vocab_only: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        params = lib.llama_model_default_params()
        params.vocab_only = vocab_only
        keep = self._place(params, options)
        if on_progress is not None:
            params.progress_callback = keep["progress"] = lib.llama_progress_callback(_progress(on_progress))
        with Log() as log:
            self.pointer = _load([path, *parts], params)
        if not self.pointer:
            raise _load_error(log)
        self._keep = keep
        self.vocabulary = Vocabulary(lib.llama_model_get_vocab(self.pointer))
        self.adapters: list[Any] = []

    def _place(self, params: Any, options: LoadOptions) -> dict[str, Any]:
        """Fills the placement fields; what is returned must live as long as the load."""
        keep: dict[str, Any] = {}
        params.n_gpu_layers = options.num_gpu if options.num_gpu >= 0 else ALL_LAYERS
        params.main_gpu = options.main_gpu
        if options.use_mmap is not None:
            params.load_mode = lib.LLAMA_LOAD_MODE_MMAP if options.use_mmap else lib.LLAMA_LOAD_MODE_NONE
        if options.tensor_split:
            size = lib.llama_max_devices()
            shares = (ctypes.c_float * size)(*options.tensor_split[:size])
            params.tensor_split = keep["split"] = shares
        if options.cpu_moe:
            keep["overrides"] = overrides = _experts_on_cpu(options.cpu_moe)
            params.tensor_buft_overrides = ctypes.addressof(overrides)
        return keep

    def add_adapter(self, path: str) -> None:
        with Log() as log:
            adapter = lib.llama_adapter_lora_init(self.pointer, path.encode())
        if not adapter:
            raise LoadError(f"the adapter does not fit this model: {_reason(log)}")
        self.adapters.append(adapter)

    @property
    def size(self) -> int:
        return int(lib.llama_model_size(self.pointer))

    @property
    def trained_ctx(self) -> int:
        return int(lib.llama_model_n_ctx_train(self.pointer))

    @property
    def width(self) -> int:
        """Numbers in one embedding."""
        return int(lib.llama_model_n_embd_out(self.pointer))

    @property
    def recurrent(self) -> bool:
        """Its memory cannot be cut at a position (recurrent or hybrid)."""
        return bool(lib.llama_model_is_recurrent(self.pointer) or lib.llama_model_is_hybrid(self.pointer))

    @property
    def plain(self) -> bool:
        """One KV cache that keeps every position: no sliding window, no recurrent state."""
        return not self.recurrent and lib.llama_model_n_swa(self.pointer) == 0

    @property
    def chat_template(self) -> str:
        raw = lib.llama_model_chat_template(self.pointer, None)
        return raw.decode("utf-8", "replace") if raw else ""

    def metadata(self, key: str) -> str | None:
        buffer = ctypes.create_string_buffer(256)
        size = lib.llama_model_meta_val_str(self.pointer, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    def close(self) -> None:
        if self.pointer:
            lib.llama_model_free(self.pointer)
            self.pointer = None


def _progress(report: Callable[[float], None]) -> Callable[[float, Any], bool]:
    def callback(fraction: float, _: Any) -> bool:
        report(fraction)
        return True

    return callback


class _BufferOverride(ctypes.Structure):
    """llama_model_tensor_buft_override of llama.h."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def _experts_on_cpu(layers: int) -> Any:
    """Overrides that keep the expert tensors of the first ``layers`` blocks in CPU memory, null-terminated."""
    import os.path

    base = ctypes.CDLL(os.path.join(os.path.dirname(lib._lib._name), "libggml-cpu.so"))
    base.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p
    cpu = base.ggml_backend_cpu_buffer_type()
    count = min(layers, 1024)
    rows = (_BufferOverride * (count + 1))()
    for i in range(count):
        rows[i] = _BufferOverride(rf"blk\.{i}\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode(), cpu)
    return rows


def _load_error(log: list[str]) -> LoadError:
    text = "".join(log).lower()
    memory = any(s in text for s in ("failed to allocate", "out of memory", "unable to allocate", "cudamalloc"))
    reason = _reason(log)
    advice = "" if memory else "; `llamada fsck` tells whether its file is damaged"
    return LoadError(f"llama.cpp cannot load this model: {reason}{advice}", memory=memory)


# The most telling first; each wraps the one before it: "error loading model: … failed to load model from PATH".
REASONS = (
    r"error loading model: (?!.*failed to load model)(.+)",
    r"failed to apply lora adapter: (.+)",
    r": error: (.+)",
    r"(failed to (?!load model).+)",
)


def _reason(log: list[str]) -> str:
    """llama.cpp's own reason without paths and names of functions."""
    text = "".join(log)
    for pattern in REASONS:
        found = re.findall(pattern, text)
        if found:
            bare = re.sub(r"'?/[^\s']+'?", "the model file", found[-1])
            return re.sub(r"^(?:\w+: )+", "", bare).strip()
    return "its file could not be read"


def as_tokens(tokens: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.asarray(tokens, dtype=np.int32)
