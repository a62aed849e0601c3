"""What llama.cpp sees of this machine, for ``--probe``: one JSON line, in a process that lives only for it."""

from __future__ import annotations

import ctypes
import json
import os
from typing import Any

from server.worker.backends.llamacpp.library import lib

KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}
BUILDS = ("cuda", "metal", "hip", "vulkan", "sycl")


def report() -> str:
    lib.llama_backend_init()
    folder = os.path.dirname(lib._lib._name)
    devices = _devices(folder)
    info = lib.llama_print_system_info().decode("utf-8", "replace")
    return json.dumps({"devices": devices, "system_info": info, "build": _build(folder)})


def _build(folder: str) -> str:
    names = " ".join(os.listdir(folder)).lower()
    found = next((b for b in BUILDS if f"ggml-{b}" in names), "cpu")
    return {"hip": "rocm"}.get(found, found)


def _load(folder: str, stem: str) -> Any:
    suffix = next(s for s in (".so", ".dylib", ".dll") if os.path.exists(os.path.join(folder, stem + s)))
    return ctypes.CDLL(os.path.join(folder, stem + suffix))


def _devices(folder: str) -> list[dict[str, Any]]:
    registry, base = _load(folder, "libggml"), _load(folder, "libggml-base")
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    registry.ggml_backend_dev_get.argtypes = (ctypes.c_size_t,)
    for name in ("name", "description"):
        function = getattr(base, f"ggml_backend_dev_{name}")
        function.restype, function.argtypes = ctypes.c_char_p, (ctypes.c_void_p,)
    base.ggml_backend_dev_type.argtypes = (ctypes.c_void_p,)
    size = ctypes.POINTER(ctypes.c_size_t)
    base.ggml_backend_dev_memory.argtypes = (ctypes.c_void_p, size, size)
    found: list[dict[str, Any]] = []
    for i in range(registry.ggml_backend_dev_count()):
        device = registry.ggml_backend_dev_get(i)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        base.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append({
            "name": base.ggml_backend_dev_name(device).decode(),
            "description": base.ggml_backend_dev_description(device).decode(),
            "kind": KINDS.get(base.ggml_backend_dev_type(device), "accel"),
            "free": free.value,
            "total": total.value,
        })  # fmt: skip
    return found
