"""What most decoders share: the names of llama's tensors and settings, which many families took over."""

from __future__ import annotations

from converters.architectures.steps import STACK
from converters.architectures.table import Requires, Setting, Tensor, layers

ENDS = (
    Tensor("model.embed_tokens.weight", "token_embd.weight"),
    Tensor("model.norm.*", "output_norm.*"),
    Tensor("lm_head.*", "output.*"),
)
SPLIT_ATTENTION = (
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
)
NORMS = (("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"))
GATED_MLP = (("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"))
EXPERTS = (
    ("mlp.gate.weight", "ffn_gate_inp.weight"),
    ("mlp.experts.{e}.gate_proj.weight", "ffn_gate_exps.weight", STACK),
    ("mlp.experts.{e}.up_proj.weight", "ffn_up_exps.weight", STACK),
    ("mlp.experts.{e}.down_proj.weight", "ffn_down_exps.weight", STACK),
)

SIZES = (
    Setting("vocab_size", "vocab_size"),
    Setting("max_position_embeddings", "context_length", aliases=("n_positions",)),
    Setting("hidden_size", "embedding_length"),
    Setting("num_hidden_layers", "block_count"),
    Setting("num_attention_heads", "attention.head_count"),
)
FFN = Setting("intermediate_size", "feed_forward_length")
KV_HEADS = Setting("num_key_value_heads", "attention.head_count_kv", like="num_attention_heads")
RMS_EPS = Setting("rms_norm_eps", "attention.layer_norm_rms_epsilon", "f32", default=1e-6)
NORM_EPS = Setting("layer_norm_eps", "attention.layer_norm_epsilon", "f32", aliases=("layer_norm_epsilon", "norm_eps"))
HEAD_DIM = Setting("head_dim", "attention.key_length", also=("attention.value_length",), optional=True)
DECODER = (*SIZES, FFN, KV_HEADS, RMS_EPS)
SLIDING = Setting("sliding_window", "attention.sliding_window", optional=True)

SILU = Requires("hidden_act", ("silu", "swish"))
GELU_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")
NO_WINDOW = Requires("use_sliding_window", (False,), written=False)


def decoder(*rows: tuple[object, ...]) -> tuple[Tensor, ...]:
    """Embedding, final norm and head around layers of these rows."""
    return (*ENDS, *layers(rows))  # type: ignore[arg-type]
