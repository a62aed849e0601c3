"""GLM-4 0414: gate and up fused, norms around attention and FFN, half of each head is rotated, neighbours in pairs."""

from __future__ import annotations

from converters.architectures.common import DECODER, HEAD_DIM, SILU, SPLIT_ATTENTION, decoder
from converters.architectures.rope import Rope
from converters.architectures.table import Architecture

GLM4 = Architecture(
    "glm4",
    ("Glm4ForCausalLM",),
    "glm4",
    decoder(
        *SPLIT_ATTENTION,
        ("input_layernorm", "attn_norm"),
        ("post_self_attn_layernorm", "post_attention_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("post_mlp_layernorm", "post_ffw_norm"),
        ("mlp.gate_up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ),
    (*DECODER, HEAD_DIM),
    Rope(partial=0.5),
    (SILU,),
)

ROWS = (GLM4,)
