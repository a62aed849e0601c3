"""Llama and what is computed like it: Mistral, Mixtral, Granite's and SmolLM's cousins have files of their own."""

from __future__ import annotations

from converters.architectures.common import DECODER, GATED_MLP, HEAD_DIM, NORMS, SILU, SPLIT_ATTENTION, decoder
from converters.architectures.rope import Rope
from converters.architectures.steps import ROTATE_K, ROTATE_Q, STACK
from converters.architectures.table import Architecture, Setting
from converters.gguf.metadata import Metadata

QUERY, KEY, VALUE, OUTPUT = SPLIT_ATTENTION
ROTATED = ((*QUERY, ROTATE_Q), (*KEY, ROTATE_K), VALUE, OUTPUT)


def dense(metadata: Metadata) -> bool:
    return not metadata.get("llama.expert_count")


LLAMA = Architecture(
    "llama",
    ("LlamaForCausalLM", "LLaMAForCausalLM"),
    "llama",
    decoder(*ROTATED, *NORMS, *GATED_MLP),
    (*DECODER, HEAD_DIM),
    Rope(),
    (SILU,),
    when=dense,
)

MISTRAL = Architecture(
    "llama",
    ("MistralForCausalLM",),
    "mistral",
    LLAMA.tensors,
    LLAMA.settings,
    LLAMA.rope,
    (SILU,),
    windowless=True,
    when=lambda metadata: False,  # the way back is LlamaForCausalLM, which computes the same
)

MIXTRAL = Architecture(
    "llama",
    ("MixtralForCausalLM",),
    "mixtral",
    decoder(
        *ROTATED,
        *NORMS,
        ("block_sparse_moe.gate.weight", "ffn_gate_inp.weight"),
        ("block_sparse_moe.experts.{e}.w1.weight", "ffn_gate_exps.weight", STACK),
        ("block_sparse_moe.experts.{e}.w3.weight", "ffn_up_exps.weight", STACK),
        ("block_sparse_moe.experts.{e}.w2.weight", "ffn_down_exps.weight", STACK),
    ),
    (
        *LLAMA.settings,
        Setting("num_local_experts", "expert_count"),
        Setting("num_experts_per_tok", "expert_used_count"),
    ),
    Rope(),
    (SILU,),
    windowless=True,
    written={"sliding_window": None},
    when=lambda metadata: not dense(metadata),
)

ROWS = (LLAMA, MISTRAL, MIXTRAL)
