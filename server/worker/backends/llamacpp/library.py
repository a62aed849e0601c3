"""The one import of llama_cpp, without what its package start-up drags in.

``import llama_cpp`` also loads its chat formats, servers' types and Jinja (0.4 s); the bindings alone load in
a tenth of that. So the package is entered as a bare namespace and only its ``llama_cpp`` module is executed.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
import threading
import types
from typing import Any


def _bindings() -> Any:
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("llama-cpp-python is not installed: run `make setup`")
        bare = types.ModuleType("llama_cpp")
        bare.__path__ = list(spec.submodule_search_locations)
        bare.__spec__ = spec
        sys.modules["llama_cpp"] = bare
    return importlib.import_module("llama_cpp.llama_cpp")


lib: Any = _bindings()


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, user: object) -> None:
    pass


_collected: list[str] = []
_log_lock = threading.Lock()


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _collect(level: int, text: bytes, user: object) -> None:
    if len(_collected) < 5000:
        _collected.append(text.decode("utf-8", "replace"))


class Log:
    """While open, what llama.cpp logs is collected; otherwise it is dropped. One at a time: it is one log."""

    def __enter__(self) -> list[str]:
        _log_lock.acquire()
        _collected.clear()
        lib.llama_log_set(_collect, ctypes.c_void_p(0))
        return _collected

    def __exit__(self, *_: object) -> None:
        lib.llama_log_set(_silent, ctypes.c_void_p(0))
        _log_lock.release()


lib.llama_log_set(_silent, ctypes.c_void_p(0))
