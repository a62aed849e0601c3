"""What every use of libllama here shares: its log as text, a model loaded without a GPU, the tensor struct of ggml.

libllama prints, and ends its process on what it does not expect: callers run in a process of their own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as lib

from converters.errors import ConversionFailed

ERROR_LEVEL = 4
MAX_ERRORS = 100

Line = Callable[[bytes], None]


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, _: object) -> None:
    pass


class Log:
    """While open, libllama's log goes to ``on_line`` (pieces of lines, as they come); the last errors are kept."""

    def __init__(self, on_line: Line | None = None) -> None:
        self._on_line = on_line
        self._errors: list[str] = []
        self._callback = lib.llama_log_callback(self._take)

    def __enter__(self) -> Log:
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        return self

    def __exit__(self, *_: object) -> None:
        lib.llama_log_set(_silent, ctypes.c_void_p(0))

    def reason(self, *paths: Path) -> str:
        """llama.cpp's own words, without our paths."""
        text = self._errors[-1] if self._errors else "no reason given"
        for error in self._errors:
            if "error loading model" in error or "failed to quantize" in error:
                text = error
                break
        for path in paths:
            text = text.replace(f"'{path}'", "the file").replace(str(path), "the file")
        return text.rpartition("failed to quantize: ")[2]

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level == ERROR_LEVEL and text.strip() and len(self._errors) < MAX_ERRORS:
            self._errors.append(text.decode("utf-8", "replace").strip())
        elif self._on_line is not None:
            self._on_line(text)


@contextmanager
def loaded(path: Path, log: Log) -> Iterator[Any]:
    """The model at ``path`` as the worker would load it; its weights stay on disk until they are used."""
    params = lib.llama_model_default_params()
    nothing = (ctypes.c_void_p * 1)(None)
    params.devices = ctypes.cast(nothing, ctypes.c_void_p)  # an empty list: no GPU is woken for this
    params.n_gpu_layers = 0
    params.use_extra_bufts = False  # a repacked copy of the weights would need their size in memory
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ConversionFailed(f"llama.cpp cannot load the model: {log.reason(path)}")
    try:
        yield model
    finally:
        lib.llama_model_free(model)
