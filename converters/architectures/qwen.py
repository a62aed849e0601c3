"""Qwen 2, 2.5 and 3, dense and with experts."""

from __future__ import annotations

from converters.architectures.common import (
    DECODER,
    EXPERTS,
    GATED_MLP,
    HEAD_DIM,
    NO_WINDOW,
    NORMS,
    SILU,
    SPLIT_ATTENTION,
    decoder,
)  # fmt: skip
from converters.architectures.rope import Rope
from converters.architectures.steps import TopRows
from converters.architectures.table import Architecture, Requires, Setting

ROPE = Rope(count=False)
QK_NORMS = (("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm"))
EXPERT_COUNTS = (
    Setting("num_experts", "expert_count", aliases=("num_local_experts",)),
    Setting("num_experts_per_tok", "expert_used_count"),
    Setting("moe_intermediate_size", "expert_feed_forward_length"),
)
ALL_SPARSE = (Requires("decoder_sparse_step", (1,)), Requires("mlp_only_layers", ([],)))

QWEN2 = Architecture(
    "qwen2",
    ("Qwen2ForCausalLM",),
    "qwen2",
    decoder(*SPLIT_ATTENTION, *NORMS, *GATED_MLP),
    DECODER,
    ROPE,
    (SILU, NO_WINDOW),
)

QWEN2MOE = Architecture(
    "qwen2moe",
    ("Qwen2MoeForCausalLM",),
    "qwen2_moe",
    decoder(
        *SPLIT_ATTENTION,
        *NORMS,
        *EXPERTS,
        ("mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight", TopRows()),
        ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
        ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
        ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ),
    (*DECODER, *EXPERT_COUNTS, Setting("shared_expert_intermediate_size", "expert_shared_feed_forward_length")),
    ROPE,
    (SILU, NO_WINDOW, *ALL_SPARSE, Requires("norm_topk_prob", (False,))),
)

QWEN3 = Architecture(
    "qwen3",
    ("Qwen3ForCausalLM",),
    "qwen3",
    decoder(*SPLIT_ATTENTION, *QK_NORMS, *NORMS, *GATED_MLP),
    (*DECODER, HEAD_DIM),
    ROPE,
    (SILU, NO_WINDOW),
)

QWEN3MOE = Architecture(
    "qwen3moe",
    ("Qwen3MoeForCausalLM",),
    "qwen3_moe",
    decoder(*SPLIT_ATTENTION, *QK_NORMS, *NORMS, *EXPERTS),
    (*DECODER, HEAD_DIM, *EXPERT_COUNTS),
    ROPE,
    (SILU, NO_WINDOW, *ALL_SPARSE, Requires("norm_topk_prob", (True,))),
)

ROWS = (QWEN2, QWEN2MOE, QWEN3, QWEN3MOE)
