"""StableLM 2: LayerNorm with biases, part of each head is rotated, a norm of its own for every head if wanted."""

from __future__ import annotations

from converters.architectures.common import FFN as FFN_SIZE
from converters.architectures.common import GATED_MLP, KV_HEADS, NORM_EPS, NORMS, SILU, SIZES, SPLIT_ATTENTION, decoder
from converters.architectures.rope import Rope
from converters.architectures.steps import STACK
from converters.architectures.table import Architecture, Setting
from converters.gguf.metadata import Metadata


def reads_biases(metadata: Metadata, found: dict[str, object]) -> None:
    """Which optional tensors there are is known to the reader only; ``from_gguf`` notes it here."""
    found["use_qkv_bias"] = bool(metadata.get("llamada.has.attn_q.bias"))
    found["qk_layernorm"] = bool(metadata.get("llamada.has.attn_q_norm.weight"))


STABLELM = Architecture(
    "stablelm",
    ("StableLmForCausalLM", "StableLMEpochForCausalLM"),
    "stablelm",
    decoder(
        *SPLIT_ATTENTION,
        ("self_attn.q_layernorm.norms.{e}.weight", "attn_q_norm.weight", STACK),
        ("self_attn.k_layernorm.norms.{e}.weight", "attn_k_norm.weight", STACK),
        *NORMS,
        *GATED_MLP,
    ),
    (
        *SIZES,
        FFN_SIZE,
        KV_HEADS,
        NORM_EPS,
        Setting("use_parallel_residual", "use_parallel_residual", "bool", default=False),
    ),
    Rope(partial=0.25),
    (SILU,),
    config=reads_biases,
)

ROWS = (STABLELM,)
