"""Tiny random checkpoints as transformers itself writes them: one per row of the architecture table and variant."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the train extra: pip install -c constraints.txt -e '.[train]'")
pytest.importorskip("transformers", reason="needs the train extra: pip install -c constraints.txt -e '.[train]'")

import torch
import transformers as tr
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from converters.gguf.pretokenizers import GPT4O, LLAMA3, QWEN2, TEKKEN
from converters.torture import TORTURE

tr.logging.set_verbosity_error()
torch.set_num_threads(1)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
BASE: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 3,
    "tie_word_embeddings": False,
}  # fmt: skip
LLAMA31 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}


def corpus() -> list[str]:
    from pydoc_data import topics

    return [TORTURE, *list(topics.topics.values())[:20]]


@functools.cache
def bpe(split: str, size: int = 508) -> tr.PreTrainedTokenizerFast:
    """A byte-level BPE with one of the usual ways to split: a regular expression, or "gpt2", or "digits"."""
    tokenizer = Tokenizer(models.BPE())
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split in ("gpt2", "digits"))
    first = [pre_tokenizers.Digits(individual_digits=True)] if split == "digits" else []
    if split not in ("gpt2", "digits"):
        first = [pre_tokenizers.Split(Regex(split), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*first, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(corpus(), trainer)
    made = tr.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|pad|>"
    )
    made.chat_template = CHATML
    return made


def with_(**changes: Any) -> dict[str, Any]:
    return {**BASE, **changes}


# case → (config, how far f32 logits may differ, has experts)
def cases() -> dict[str, Any]:
    return {
        "llama": tr.LlamaConfig(**BASE),
        "llama-biases-tied": tr.LlamaConfig(**with_(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
        "llama-3.1": tr.LlamaConfig(**with_(rope_parameters=LLAMA31)),
        "llama-yarn": tr.LlamaConfig(**with_(rope_parameters=YARN)),
        "llama-linear": tr.LlamaConfig(
            **with_(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})
        ),
        "mistral": tr.MistralConfig(**with_(sliding_window=None, head_dim=32)),
        "mixtral": tr.MixtralConfig(**with_(num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
        "qwen2": tr.Qwen2Config(**BASE),
        "qwen2moe": tr.Qwen2MoeConfig(
            **with_(moe_intermediate_size=32, shared_expert_intermediate_size=64, num_experts=8, num_experts_per_tok=2,
                    norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[])
        ),
        "qwen3": tr.Qwen3Config(**with_(head_dim=32)),
        "qwen3moe": tr.Qwen3MoeConfig(
            **with_(head_dim=32, moe_intermediate_size=32, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True,
                    decoder_sparse_step=1, mlp_only_layers=[])
        ),
        "gemma": tr.GemmaConfig(**with_(head_dim=32, tie_word_embeddings=True)),
        "gemma2": tr.Gemma2Config(
            **with_(head_dim=32, query_pre_attn_scalar=32, sliding_window=64, tie_word_embeddings=True)
        ),
        "gemma3": tr.Gemma3TextConfig(
            **with_(head_dim=32, query_pre_attn_scalar=32, sliding_window=64, tie_word_embeddings=True,
                    num_hidden_layers=7)
        ),
    }  # fmt: skip


SPLITS = {"llama-3.1": LLAMA3, "gemma": "gpt2", "mixtral": "digits", "mistral": TEKKEN, "qwen3moe": GPT4O}
MOE = {"mixtral", "qwen2moe", "qwen3moe", "granitemoe", "deepseek2", "deepseek3"}
CASES = tuple(cases())


def make(case: str, folder: Path, config: dict[str, Any] | None = None, **save: Any) -> Any:
    """The model of this case with random weights, saved with its tokenizer; float32. ``config``: changes to it."""
    torch.manual_seed(1)
    wanted = cases()[case]
    for name, value in (config or {}).items():
        setattr(wanted, name, value)
    model = tr.AutoModelForCausalLM.from_config(wanted).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.08)
    model.save_pretrained(folder, **save)
    bpe(SPLITS.get(case, QWEN2), wanted.vocab_size - 4).save_pretrained(folder)
    return model


def probe() -> list[int]:
    """180 ids all over the vocabulary."""
    return [int(i) for i in torch.randint(4, 508, (180,), generator=torch.Generator().manual_seed(5))]


def logits(model: Any, tokens: list[int]) -> Any:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


__all__ = ["CASES", "MOE", "Regex", "bpe", "logits", "make", "normalizers", "probe", "processors"]
