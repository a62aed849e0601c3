"""libllama and libggml for the converters: the bindings alone, without what the package's start-up drags in.

llama.cpp's log is silent here, but for what ``Log`` collects.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

ERROR_LEVEL = 4
MAX_PIECES = 50_000


def _package() -> Path:
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("llama-cpp-python is not installed: run `make setup`")
    return Path(next(iter(spec.submodule_search_locations)))


def _bindings() -> Any:
    if "llama_cpp" not in sys.modules:
        bare = types.ModuleType("llama_cpp")
        bare.__path__ = [str(_package())]
        bare.__spec__ = importlib.util.find_spec("llama_cpp")
        sys.modules["llama_cpp"] = bare
    return importlib.import_module("llama_cpp.llama_cpp")


def _ggml() -> Any:
    """ggml's quantizing functions; libllama has it loaded already."""
    folder = Path(sys.modules["llama_cpp.llama_cpp"].__file__ or "").parent / "lib"
    found = next(path for path in sorted(folder.iterdir()) if path.name.startswith(("libggml-base.", "ggml-base.")))
    library = ctypes.CDLL(str(found))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    library.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
    return library


lib: Any = _bindings()
ggml: Any = _ggml()


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, _: object) -> None:
    pass


class Log:
    """While open, llama.cpp's lines are collected: all in ``lines``, its errors in ``errors``."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.errors: list[str] = []
        self._callback = lib.llama_log_callback(self._add)

    @property
    def lines(self) -> list[str]:
        """Whole lines: llama.cpp writes them in pieces."""
        return "".join(self._pieces).splitlines()

    def __enter__(self) -> Log:
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        return self

    def __exit__(self, *_: object) -> None:
        lib.llama_log_set(_silent, ctypes.c_void_p(0))

    def reason(self, path: Path) -> str:
        """llama.cpp's own words, without our path."""
        told = next((e for e in self.errors if "error loading model" in e), self.errors[-1] if self.errors else "")
        return (told or "no reason given").replace(f"'{path}'", "the file").replace(str(path), "the file")

    def _add(self, level: int, text: bytes, _: object) -> None:
        if len(self._pieces) < MAX_PIECES:
            piece = text.decode("utf-8", "replace")
            self._pieces.append(piece)
            if level == ERROR_LEVEL and piece.strip():
                self.errors.append(piece.strip())


lib.llama_log_set(_silent, ctypes.c_void_p(0))
