"""The GPT line: GPT-2, GPT-NeoX (Pythia), Falcon 1 and StarCoder 2. LayerNorm, GELU, often fused q, k, v.

ggml computes GELU from a table in half precision, so logits agree to 5e-3 only.
"""

from __future__ import annotations

from converters.architectures.common import FFN as FFN_SIZE
from converters.architectures.common import GELU_TANH, KV_HEADS, NORMS, SIZES, SPLIT_ATTENTION, decoder
from converters.architectures.config import Config
from converters.architectures.rope import Rope
from converters.architectures.steps import TRANSPOSE, Regroup
from converters.architectures.table import Architecture, Requires, Setting, Tensor, layers
from converters.gguf.metadata import Metadata

GELU = ("gelu", *GELU_TANH)
EPS = "attention.layer_norm_epsilon"
TOLERANCE = 5e-3

STARCODER2 = Architecture(
    "starcoder2",
    ("Starcoder2ForCausalLM",),
    "starcoder2",
    decoder(*SPLIT_ATTENTION, *NORMS, ("mlp.c_fc", "ffn_up"), ("mlp.c_proj", "ffn_down")),
    (*SIZES, FFN_SIZE, KV_HEADS, Setting("norm_epsilon", EPS, "f32", default=1e-5)),
    Rope(count=False),
    (Requires("hidden_act", (GELU_TANH[0], *GELU)), Requires("use_bias", (True,))),
    written={"sliding_window": None},
    windowless=True,
    tied=True,
    tolerance=TOLERANCE,
)


def gpt2_ffn(config: Config, metadata: Metadata) -> None:
    metadata.add("gpt2.feed_forward_length", "u32", config.get("n_inner", 4 * config.width))


def gpt2_ffn_to_config(metadata: Metadata, found: dict[str, object]) -> None:
    found["n_inner"] = metadata.get("gpt2.feed_forward_length")


GPT2 = Architecture(
    "gpt2",
    ("GPT2LMHeadModel",),
    "gpt2",
    (
        Tensor("transformer.wte.weight", "token_embd.weight"),
        Tensor("transformer.wpe.weight", "position_embd.weight"),
        Tensor("transformer.ln_f.*", "output_norm.*"),
        Tensor("lm_head.weight", "output.weight"),
        *layers(
            (
                ("ln_1", "attn_norm"),
                ("attn.c_attn", "attn_qkv", TRANSPOSE),
                ("attn.c_proj", "attn_output", TRANSPOSE),
                ("ln_2", "ffn_norm"),
                ("mlp.c_fc", "ffn_up", TRANSPOSE),
                ("mlp.c_proj", "ffn_down", TRANSPOSE),
            ),
            hf="transformer.h.{n}.",
        ),
    ),
    (
        Setting("vocab_size", "vocab_size"),
        Setting("n_positions", "context_length", aliases=("n_ctx",)),
        Setting("n_embd", "embedding_length"),
        Setting("n_layer", "block_count"),
        Setting("n_head", "attention.head_count"),
        Setting("layer_norm_epsilon", EPS, "f32", default=1e-5),
    ),
    requires=(
        Requires("activation_function", ("gelu_new", *GELU)),
        Requires("scale_attn_by_inverse_layer_idx", (False,), written=False),
    ),
    drop=r"\.attn\.(bias|masked_bias)$",
    renames=((r"^(wte|wpe|ln_f|h)\.", r"transformer.\1."),),
    tied=True,
    keys=gpt2_ffn,
    config=gpt2_ffn_to_config,
    tolerance=TOLERANCE,
)


def one_group_per_head(config: Config) -> tuple[int, int]:
    return config.heads, 1


GPTNEOX = Architecture(
    "gptneox",
    ("GPTNeoXForCausalLM",),
    "gpt_neox",
    (
        Tensor("gpt_neox.embed_in.weight", "token_embd.weight"),
        Tensor("gpt_neox.final_layer_norm.*", "output_norm.*"),
        Tensor("embed_out.weight", "output.weight"),
        *layers(
            (
                *NORMS,
                ("attention.query_key_value", "attn_qkv", Regroup(one_group_per_head)),
                ("attention.dense", "attn_output"),
                ("mlp.dense_h_to_4h", "ffn_up"),
                ("mlp.dense_4h_to_h", "ffn_down"),
            ),
            hf="gpt_neox.layers.{n}.",
        ),
    ),
    (
        *SIZES,
        FFN_SIZE,
        Setting("layer_norm_eps", EPS, "f32", default=1e-5),
        Setting("use_parallel_residual", "use_parallel_residual", "bool", default=True),
    ),
    Rope(partial=0.25),
    (Requires("hidden_act", GELU), Requires("attention_bias", (True,))),
    drop=r"attention\.(bias|masked_bias)$",
    renames=((r"^lm_head\.", "embed_out."),),
    tolerance=TOLERANCE,
)


def falcon_kv_heads(config: Config) -> int:
    if config.get("new_decoder_architecture", False):
        return config.whole("num_kv_heads", "n_head_kv")
    return 1 if config.get("multi_query", True) else config.heads


def falcon_groups(config: Config) -> tuple[int, int]:
    kv_heads = falcon_kv_heads(config)
    return kv_heads, config.heads // kv_heads


def falcon_keys(config: Config, metadata: Metadata) -> None:
    metadata.add("falcon.attention.head_count_kv", "u32", falcon_kv_heads(config))
    metadata.add("falcon.feed_forward_length", "u32", config.get("ffn_hidden_size", 4 * config.width))


def falcon_config(metadata: Metadata, found: dict[str, object]) -> None:
    kv_heads = metadata.get("falcon.attention.head_count_kv")
    new = bool(metadata.get("llamada.has.attn_norm_2.weight"))
    found |= {"new_decoder_architecture": new, "multi_query": True, "num_kv_heads": kv_heads}
    found["ffn_hidden_size"] = metadata.get("falcon.feed_forward_length")


FALCON = Architecture(
    "falcon",
    ("FalconForCausalLM", "RWForCausalLM"),
    "falcon",
    (
        Tensor("transformer.word_embeddings.weight", "token_embd.weight"),
        Tensor("transformer.ln_f.*", "output_norm.*"),
        Tensor("lm_head.weight", "output.weight"),
        *layers(
            (
                ("input_layernorm", "attn_norm"),
                ("ln_mlp", "attn_norm"),
                ("ln_attn", "attn_norm_2"),
                ("self_attention.query_key_value", "attn_qkv", Regroup(falcon_groups)),
                ("self_attention.dense", "attn_output"),
                ("mlp.dense_h_to_4h", "ffn_up"),
                ("mlp.dense_4h_to_h", "ffn_down"),
            ),
            hf="transformer.h.{n}.",
        ),
    ),
    (
        Setting("vocab_size", "vocab_size"),
        Setting("max_position_embeddings", "context_length", default=2048),
        Setting("hidden_size", "embedding_length"),
        Setting("num_hidden_layers", "block_count", aliases=("n_layer",)),
        Setting("num_attention_heads", "attention.head_count", aliases=("n_head",)),
        Setting("layer_norm_epsilon", EPS, "f32", default=1e-5),
    ),
    Rope(count=False),
    (
        Requires("alibi", (False,)),
        Requires("parallel_attn", (True,)),
        Requires("bias", (False,)),
        Requires("activation", GELU, written=False),
    ),
    tied=True,
    keys=falcon_keys,
    config=falcon_config,
    tolerance=TOLERANCE,
)

ROWS = (STARCODER2, GPT2, GPTNEOX, FALCON)
