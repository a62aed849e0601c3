"""Gemma 1, 2 and 3 (the text model; projectors are files of their own)."""

from __future__ import annotations

from typing import Any

from converters.architectures.common import GATED_MLP, GELU_TANH, SPLIT_ATTENTION, decoder
from converters.architectures.config import Config
from converters.architectures.rope import Rope
from converters.architectures.steps import PLUS_ONE
from converters.architectures.table import Architecture, Requires, Setting, Tensor
from converters.errors import Unsupported
from converters.gguf.metadata import Metadata

TANH = Requires("hidden_activation", (*GELU_TANH, "gelu"), aliases=("hidden_act",))


def shifted(rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The final norm too is stored as w and applied as 1 + w."""
    return tuple(Tensor(t.hf, t.gguf, PLUS_ONE) if t.hf == "model.norm.*" else t for t in rows)


def settings(*, heads: int | None = None, kv_heads: int | None = None, head_dim: int = 256,
             context: int | None = 8192, vocabulary: int | None = 256000) -> tuple[Setting, ...]:  # fmt: skip
    """Gemma's published configs leave out what equals the defaults of its class."""
    return (
        Setting("vocab_size", "vocab_size", default=vocabulary),
        Setting("max_position_embeddings", "context_length", default=context),
        Setting("hidden_size", "embedding_length"),
        Setting("num_hidden_layers", "block_count"),
        Setting("intermediate_size", "feed_forward_length"),
        Setting("num_attention_heads", "attention.head_count", default=heads),
        Setting("num_key_value_heads", "attention.head_count_kv", default=kv_heads),
        Setting("head_dim", "attention.key_length", also=("attention.value_length",), default=head_dim),
        Setting("rms_norm_eps", "attention.layer_norm_rms_epsilon", "f32", default=1e-6),
    )


TWO_NORMS = (("input_layernorm", "attn_norm", PLUS_ONE), ("post_attention_layernorm", "ffn_norm", PLUS_ONE))
FOUR_NORMS = (
    ("input_layernorm", "attn_norm", PLUS_ONE),
    ("post_attention_layernorm", "post_attention_norm", PLUS_ONE),
    ("pre_feedforward_layernorm", "ffn_norm", PLUS_ONE),
    ("post_feedforward_layernorm", "post_ffw_norm", PLUS_ONE),
)
QK_NORMS = (("self_attn.q_norm", "attn_q_norm", PLUS_ONE), ("self_attn.k_norm", "attn_k_norm", PLUS_ONE))
CAPS = (
    Setting("attn_logit_softcapping", "attn_logit_softcapping", "f32", optional=True),
    Setting("final_logit_softcapping", "final_logit_softcapping", "f32", optional=True),
)


def scale_is_usual(config: Config, metadata: Metadata) -> None:
    """llama.cpp scales attention by 1/√head_dim, except in the 27B shapes, where it is 1/√(width/heads)."""
    big = 46 if metadata.get("general.architecture") == "gemma2" else 62
    usual = config.width // config.heads if config.layers == big else config.get("head_dim", 256)
    if config.get("query_pre_attn_scalar", usual) != usual:
        raise Unsupported(f'"query_pre_attn_scalar" must be {usual} here: llama.cpp computes with that')


def scale_to_config(metadata: Metadata, found: dict[str, Any]) -> None:
    big = 46 if found["model_type"] == "gemma2" else 62
    wide = found["hidden_size"] // found["num_attention_heads"]
    found["query_pre_attn_scalar"] = wide if found["num_hidden_layers"] == big else found["head_dim"]


GEMMA = Architecture(
    "gemma",
    ("GemmaForCausalLM",),
    "gemma",
    shifted(decoder(*SPLIT_ATTENTION, *TWO_NORMS, *GATED_MLP)),
    settings(),
    Rope(count=False),
    (TANH,),
    tied=True,
    tolerance=5e-3,
)

GEMMA2 = Architecture(
    "gemma2",
    ("Gemma2ForCausalLM",),
    "gemma2",
    shifted(decoder(*SPLIT_ATTENTION, *FOUR_NORMS, *GATED_MLP)),
    (*settings(), *CAPS, Setting("sliding_window", "attention.sliding_window", default=4096)),
    Rope(count=False),
    (TANH,),
    keys=scale_is_usual,
    config=scale_to_config,
    tied=True,
    tolerance=5e-3,
)

PATTERN = "gemma3.attention.sliding_window_pattern"


def gemma3_keys(config: Config, metadata: Metadata) -> None:
    scale_is_usual(config, metadata)
    kinds = config.get("layer_types")
    step = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6
    wanted = ["full_attention" if (i + 1) % step == 0 else "sliding_attention" for i in range(config.layers)]
    if kinds is not None and kinds != wanted:
        raise Unsupported("layer_types must be full attention in every n-th layer")
    metadata.add(PATTERN, "u32", step)


def gemma3_config(metadata: Metadata, found: dict[str, Any]) -> None:
    scale_to_config(metadata, found)
    step = metadata.get(PATTERN, 6)
    if isinstance(step, list):
        raise Unsupported("a sliding_window_pattern with an entry per layer cannot be read back yet")
    found["layer_types"] = ["full_attention" if (i + 1) % step == 0 else "sliding_attention"
                            for i in range(found["num_hidden_layers"])]  # fmt: skip


GEMMA3 = Architecture(
    "gemma3",
    ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    "gemma3_text",
    shifted(decoder(*SPLIT_ATTENTION, *QK_NORMS, *FOUR_NORMS, *GATED_MLP)),
    (
        *settings(heads=8, kv_heads=4, context=131072, vocabulary=262208),
        Setting("sliding_window", "attention.sliding_window", default=4096),
        CAPS[1],
    ),
    Rope(count=False, theta=1_000_000.0, sliding=True),
    (TANH, Requires("attn_logit_softcapping", (None,), written=False)),
    drop=r"^(model\.)?(vision_tower|multi_modal_projector)\.",
    renames=((r"^(language_model\.model|model\.language_model)\.", "model."), (r"^language_model\.lm_head", "lm_head")),
    keys=gemma3_keys,
    config=gemma3_config,
    tied=True,
    tolerance=5e-3,
)

ROWS = (GEMMA, GEMMA2, GEMMA3)
