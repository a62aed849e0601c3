"""SmolLM 3: llama without RoPE in every fourth layer."""

from __future__ import annotations

from converters.architectures.common import DECODER, GATED_MLP, NO_WINDOW, NORMS, SILU, decoder
from converters.architectures.config import Config
from converters.architectures.llama import ROTATED
from converters.architectures.rope import Rope
from converters.architectures.table import Architecture
from converters.errors import Unsupported
from converters.gguf.metadata import Metadata

EVERY = 4


def every_fourth(config: Config, metadata: Metadata) -> None:
    wanted = [int((layer + 1) % EVERY != 0) for layer in range(config.layers)]
    if config.get("no_rope_layers", wanted) != wanted or config.get("no_rope_layer_interval", EVERY) != EVERY:
        raise Unsupported("llama.cpp leaves RoPE out in every fourth layer; this model does in others")


def layers_to_config(metadata: Metadata, found: dict[str, object]) -> None:
    found["no_rope_layer_interval"] = EVERY


SMOLLM3 = Architecture(
    "smollm3",
    ("SmolLM3ForCausalLM",),
    "smollm3",
    decoder(*ROTATED, *NORMS, *GATED_MLP),
    DECODER,
    Rope(),
    (SILU, NO_WINDOW),
    keys=every_fourth,
    config=layers_to_config,
)

ROWS = (SMOLLM3,)
