"""Phi-3 and Phi-4 (mini and medium): q, k, v and gate, up stay fused."""

from __future__ import annotations

from converters.architectures.common import DECODER, NORMS, SILU, SPLIT_ATTENTION, decoder
from converters.architectures.config import Config
from converters.architectures.rope import Rope
from converters.architectures.table import Architecture
from converters.gguf.metadata import Metadata

WINDOW = "phi3.attention.sliding_window"


def window(config: Config, metadata: Metadata) -> None:
    """llama.cpp computes without a window (its own note: long texts may differ); 0 tells Phi-4 apart."""
    metadata.add(WINDOW, "u32", config.get("sliding_window", 0))


def window_to_config(metadata: Metadata, found: dict[str, object]) -> None:
    found["sliding_window"] = metadata.get(WINDOW) or None


PHI3 = Architecture(
    "phi3",
    ("Phi3ForCausalLM",),
    "phi3",
    decoder(
        ("self_attn.qkv_proj", "attn_qkv"),
        SPLIT_ATTENTION[3],
        *NORMS,
        ("mlp.gate_up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ),
    DECODER,
    Rope(original_key=True),
    (SILU,),
    windowless=True,
    keys=window,
    config=window_to_config,
)

ROWS = (PHI3,)
