"""DeepSeek V2, V3 and R1: latent attention (MLA), shared experts, the first layers dense.

The multi-token prediction layer at the end is left out, as llama.cpp's own converter does.
"""

from __future__ import annotations

from typing import Any

from converters.architectures.common import (
    EXPERTS,
    FFN,
    GATED_MLP,
    NORMS,
    RMS_EPS,
    SILU,
    SIZES,
    SPLIT_ATTENTION,
    decoder,
)  # fmt: skip
from converters.architectures.config import Config
from converters.architectures.rope import Rope
from converters.architectures.steps import LatentKV
from converters.architectures.table import Architecture, Requires, Setting
from converters.errors import Unsupported
from converters.gguf.metadata import Metadata

SOFTMAX, SIGMOID = 1, 2
GATING = "deepseek2.expert_gating_func"
LITE_LAYERS = (26, 27)  # where llama.cpp reads no q_lora_rank

TENSORS = decoder(
    SPLIT_ATTENTION[0],
    ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_a_layernorm", "attn_q_a_norm"),
    ("self_attn.q_b_proj", "attn_q_b"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    ("self_attn.kv_b_proj.weight", ("attn_k_b.weight", "attn_v_b.weight"), LatentKV()),
    SPLIT_ATTENTION[3],
    *NORMS,
    *GATED_MLP,
    *EXPERTS,
    ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
    ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
)
SETTINGS = (
    *SIZES,
    FFN,
    RMS_EPS,
    Setting("first_k_dense_replace", "leading_dense_block_count", default=0),
    Setting("q_lora_rank", "attention.q_lora_rank", optional=True),
    Setting("kv_lora_rank", "attention.kv_lora_rank", default=512),
    Setting("moe_intermediate_size", "expert_feed_forward_length"),
    Setting("n_routed_experts", "expert_count", aliases=("num_local_experts",)),
    Setting("num_experts_per_tok", "expert_used_count"),
    Setting("n_shared_experts", "expert_shared_count"),
    Setting("routed_scaling_factor", "expert_weights_scale", "f32", default=1.0),
    Setting("norm_topk_prob", "expert_weights_norm", "bool", default=False),
)


def latent_keys(config: Config, metadata: Metadata) -> None:
    """Attention is one shared head of rank + rope for llama.cpp; the real sizes are the ``_mla`` ones."""
    rank, rope = config.get("kv_lora_rank", 512), config.whole("qk_rope_head_dim")
    for key, value in (
        ("attention.head_count_kv", 1),
        ("attention.key_length", rank + rope),
        ("attention.value_length", rank),
        ("attention.key_length_mla", config.whole("qk_nope_head_dim") + rope),
        ("attention.value_length_mla", config.whole("v_head_dim")),
    ):
        metadata.add(f"deepseek2.{key}", "u32", value)
    if "q_lora_rank" not in config and config.layers not in LITE_LAYERS:
        raise Unsupported(f"without q_lora_rank llama.cpp expects {' or '.join(map(str, LITE_LAYERS))} layers")
    rope_settings = config.rope
    if rope_settings.get("mscale") != rope_settings.get("mscale_all_dim"):
        raise Unsupported("the RoPE settings mscale and mscale_all_dim must be equal: llama.cpp knows only one of them")


def latent_config(metadata: Metadata, found: dict[str, Any]) -> None:
    rope = metadata.get("deepseek2.rope.dimension_count")
    found |= {
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": metadata.get("deepseek2.attention.key_length_mla") - rope,
        "v_head_dim": metadata.get("deepseek2.attention.value_length_mla"),
        "num_key_value_heads": found["num_attention_heads"],
        "q_lora_rank": found.get("q_lora_rank"),
    }


def v2_keys(config: Config, metadata: Metadata) -> None:
    latent_keys(config, metadata)
    metadata.add(GATING, "u32", SOFTMAX)


def v3_keys(config: Config, metadata: Metadata) -> None:
    latent_keys(config, metadata)
    metadata.add(GATING, "u32", SIGMOID)
    metadata.add("deepseek2.expert_group_count", "u32", config.get("n_group", 1))
    metadata.add("deepseek2.expert_group_used_count", "u32", config.get("topk_group", 1))


def v3_config(metadata: Metadata, found: dict[str, Any]) -> None:
    latent_config(metadata, found)
    found["n_group"] = metadata.get("deepseek2.expert_group_count", 1)
    found["topk_group"] = metadata.get("deepseek2.expert_group_used_count", 1)


def sigmoid(metadata: Metadata) -> bool:
    return bool(metadata.get(GATING) == SIGMOID)


ROPE = Rope(head="qk_rope_head_dim")

DEEPSEEK2 = Architecture(
    "deepseek2",
    ("DeepseekV2ForCausalLM",),
    "deepseek_v2",
    TENSORS,
    SETTINGS,
    ROPE,
    (SILU, Requires("topk_method", ("greedy",)), Requires("scoring_func", ("softmax",), written=False)),
    when=lambda metadata: not sigmoid(metadata),
    keys=v2_keys,
    config=latent_config,
)

DEEPSEEK3 = Architecture(
    "deepseek2",
    ("DeepseekV3ForCausalLM",),
    "deepseek_v3",
    TENSORS,
    SETTINGS,
    ROPE,
    (
        SILU,
        Requires("topk_method", ("noaux_tc",), written=False),
        Requires("scoring_func", ("sigmoid",), written=False),
        Requires("rope_interleave", (True,)),
    ),
    when=sigmoid,
    extra_layers=True,
    keys=v3_keys,
    config=v3_config,
)

ROWS = (DEEPSEEK2, DEEPSEEK3)
