"""llamada: an Ollama-compatible inference server, and the same as a library without HTTP.

``from server import ModelManager, ModelInfo, ResourceDetector``. Names are looked up when they are asked for, so
that importing ``server`` (as every worker does) costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.inprocess import Answer, LoadedModel, ModelInfo, ModelManager, ResourceDetector

__all__ = ("Answer", "LoadedModel", "ModelInfo", "ModelManager", "ResourceDetector")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'server' has no attribute {name!r}")
    from server import inprocess

    return getattr(inprocess, name)
