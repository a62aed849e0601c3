"""The seeing half of a checkpoint → the projector GGUF ("mmproj") that llama.cpp's mtmd reads beside the text model.

``of_checkpoint(config, preprocessor)`` finds the row of its class; ``write`` makes the file.
"""

from __future__ import annotations

from converters.projectors.registry import of_checkpoint
from converters.projectors.table import Projector
from converters.projectors.write import write

__all__ = ["Projector", "of_checkpoint", "write"]
