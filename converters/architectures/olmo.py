"""OLMo 2: norms behind attention and FFN, and over all of q and k."""

from __future__ import annotations

from converters.architectures.common import DECODER, GATED_MLP, SILU, SPLIT_ATTENTION, decoder
from converters.architectures.rope import Rope
from converters.architectures.table import Architecture

OLMO2 = Architecture(
    "olmo2",
    ("Olmo2ForCausalLM",),
    "olmo2",
    decoder(
        *SPLIT_ATTENTION,
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        *GATED_MLP,
    ),
    DECODER,
    Rope(),
    (SILU,),
)

ROWS = (OLMO2,)
