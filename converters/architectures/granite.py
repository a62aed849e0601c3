"""IBM Granite 3: llama with multipliers, dense and with experts."""

from __future__ import annotations

from converters.architectures.common import DECODER, GATED_MLP, NORMS, SILU, decoder
from converters.architectures.llama import ROTATED
from converters.architectures.rope import Rope
from converters.architectures.steps import HALVES
from converters.architectures.table import Architecture, Requires, Setting
from converters.gguf.metadata import Metadata

MULTIPLIERS = (
    Setting("attention_multiplier", "attention.scale", "f32", default=1.0),
    Setting("embedding_multiplier", "embedding_scale", "f32", default=1.0),
    Setting("residual_multiplier", "residual_scale", "f32", default=1.0),
    Setting("logits_scaling", "logit_scale", "f32", default=1.0),
)
ROTATES = Requires("position_embedding_type", ("rope",), written=False)
EXPERTS = (
    ("block_sparse_moe.router.layer.weight", "ffn_gate_inp.weight"),
    ("block_sparse_moe.input_linear.weight", ("ffn_gate_exps.weight", "ffn_up_exps.weight"), HALVES),
    ("block_sparse_moe.output_linear.weight", "ffn_down_exps.weight"),
)
EXPERT_COUNTS = (Setting("num_local_experts", "expert_count"), Setting("num_experts_per_tok", "expert_used_count"))
SHARED = Setting("shared_intermediate_size", "expert_shared_feed_forward_length")


def shares(metadata: Metadata) -> bool:
    return bool(metadata.get(f"granitemoe.{SHARED.gguf}"))


GRANITE = Architecture(
    "granite",
    ("GraniteForCausalLM",),
    "granite",
    decoder(*ROTATED, *NORMS, *GATED_MLP),
    (*DECODER, *MULTIPLIERS),
    Rope(),
    (SILU, ROTATES),
)

GRANITEMOE = Architecture(
    "granitemoe",
    ("GraniteMoeForCausalLM",),
    "granitemoe",
    decoder(*ROTATED, *NORMS, *EXPERTS),
    (*DECODER, *MULTIPLIERS, *EXPERT_COUNTS),
    Rope(),
    (SILU, ROTATES),
    when=lambda metadata: not shares(metadata),
)

GRANITEMOE_SHARED = Architecture(
    "granitemoe",
    ("GraniteMoeSharedForCausalLM",),
    "granitemoeshared",
    decoder(
        *ROTATED,
        *NORMS,
        *EXPERTS,
        ("shared_mlp.input_linear.weight", ("ffn_gate_shexp.weight", "ffn_up_shexp.weight"), HALVES),
        ("shared_mlp.output_linear.weight", "ffn_down_shexp.weight"),
    ),
    (*DECODER, *MULTIPLIERS, *EXPERT_COUNTS, SHARED),
    Rope(),
    (SILU, ROTATES),
    when=shares,
)

ROWS = (GRANITE, GRANITEMOE, GRANITEMOE_SHARED)
