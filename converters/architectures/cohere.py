"""Cohere's Command R: attention and FFN beside each other, LayerNorm without bias, neighbours are rotated."""

from __future__ import annotations

from converters.architectures.common import FFN, GATED_MLP, KV_HEADS, NORM_EPS, SILU, SIZES, SPLIT_ATTENTION, decoder
from converters.architectures.config import Config
from converters.architectures.rope import Rope
from converters.architectures.table import Architecture, Setting
from converters.errors import Unsupported
from converters.gguf.metadata import Metadata

NORMED_LAYERS = 64


def norms_by_depth(config: Config, metadata: Metadata) -> None:
    """llama.cpp looks for the norms of q and k from 64 layers on, and only then."""
    if bool(config.get("use_qk_norm", False)) != (config.layers >= NORMED_LAYERS):
        raise Unsupported(f"llama.cpp expects use_qk_norm from {NORMED_LAYERS} layers on, and only there")
    metadata.add("command-r.rope.scaling.type", "string", "none")


def norms_to_config(metadata: Metadata, found: dict[str, object]) -> None:
    found["use_qk_norm"] = int(str(found["num_hidden_layers"])) >= NORMED_LAYERS


COMMAND_R = Architecture(
    "command-r",
    ("CohereForCausalLM",),
    "cohere",
    decoder(
        *SPLIT_ATTENTION,
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("input_layernorm", "attn_norm"),
        *GATED_MLP,
    ),
    (*SIZES, FFN, KV_HEADS, NORM_EPS, Setting("logit_scale", "logit_scale", "f32", default=0.0625)),
    Rope(count=False),
    (SILU,),
    tied=True,
    keys=norms_by_depth,
    config=norms_to_config,
)

ROWS = (COMMAND_R,)
