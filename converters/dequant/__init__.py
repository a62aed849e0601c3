"""Checkpoints whose linears are quantized already → plain tensors, so that the rest of a conversion need not know.

``for_checkpoint(config)`` finds the way; ``Dequantizer.plain(tensors)`` then puts one readable tensor in the place of
the parts of each quantized linear. Weights are read when that tensor's rows are asked for. One file per format, each
with a pure function from the stored parts to float32.
"""

from __future__ import annotations

from converters.dequant.registry import for_checkpoint
from converters.dequant.stored import Dequantized, Dequantizer, Stored

__all__ = ["Dequantized", "Dequantizer", "Stored", "for_checkpoint"]
