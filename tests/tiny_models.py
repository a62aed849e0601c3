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


def without(*names: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in with_(**changes).items() if name not in names}


MLA: dict[str, Any] = {
    "num_hidden_layers": 3, "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "n_shared_experts": 1, "first_k_dense_replace": 1, "routed_scaling_factor": 1.5,
}  # fmt: skip


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
        "phi3": tr.Phi3Config(**with_(sliding_window=None, original_max_position_embeddings=512)),
        "phi3-longrope": tr.Phi3Config(
            **with_(sliding_window=None, original_max_position_embeddings=128, max_position_embeddings=512,
                    rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0,
                                     "short_factor": [1.0 + i / 8 for i in range(8)],
                                     "long_factor": [1.0 + i for i in range(8)],
                                     "original_max_position_embeddings": 128})
        ),
        "granite": tr.GraniteConfig(
            **with_(attention_multiplier=0.2, embedding_multiplier=12.0, residual_multiplier=0.22, logits_scaling=8.0)
        ),
        "granitemoe": tr.GraniteMoeConfig(
            **with_(attention_multiplier=0.2, embedding_multiplier=2.0, residual_multiplier=0.5, logits_scaling=2.0,
                    num_local_experts=4, num_experts_per_tok=2)
        ),
        "granitemoeshared": tr.GraniteMoeSharedConfig(
            **with_(attention_multiplier=0.2, embedding_multiplier=2.0, residual_multiplier=0.5, logits_scaling=2.0,
                    num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=64)
        ),
        "smollm3": tr.SmolLM3Config(**with_(num_hidden_layers=4)),
        "olmo2": tr.Olmo2Config(**BASE),
        "stablelm": tr.StableLmConfig(**with_(num_key_value_heads=4, use_qkv_bias=True)),
        "stablelm-parallel": tr.StableLmConfig(**with_(use_parallel_residual=True, qk_layernorm=True)),
        "starcoder2": tr.Starcoder2Config(**with_(sliding_window=None)),
        "gpt2": tr.GPT2Config(
            vocab_size=512, n_positions=512, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=2
        ),
        "gptneox": tr.GPTNeoXConfig(**without("num_key_value_heads")),
        "gptneox-serial": tr.GPTNeoXConfig(**without("num_key_value_heads", use_parallel_residual=False)),
        "falcon-7b": tr.FalconConfig(
            **without("num_key_value_heads", "intermediate_size", multi_query=True, tie_word_embeddings=True)
        ),
        "falcon-40b": tr.FalconConfig(
            **without("num_key_value_heads", "intermediate_size", new_decoder_architecture=True, num_kv_heads=2,
                      tie_word_embeddings=True)
        ),
        "command-r": tr.CohereConfig(**with_(logit_scale=0.25, tie_word_embeddings=True)),
        "deepseek2": tr.DeepseekV2Config(**with_(**MLA, topk_method="greedy", norm_topk_prob=False)),
        "deepseek3": tr.DeepseekV3Config(**with_(**MLA, n_group=2, topk_group=1, norm_topk_prob=True)),
        "deepseek3-yarn": tr.DeepseekV3Config(
            **with_(**MLA, n_group=1, topk_group=1, norm_topk_prob=True,
                    rope_parameters={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0})
        ),
        "glm4": tr.Glm4Config(**with_(head_dim=16, attention_bias=True)),
    }  # fmt: skip


ENCODER: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "type_vocab_size": 2,
}  # fmt: skip
ROBERTA: dict[str, Any] = {**ENCODER, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}


def encoders() -> dict[str, tuple[str, Any, str]]:
    """case → (class, config, tokenizer)"""
    return {
        "bert": ("BertModel", tr.BertConfig(**ENCODER), "wordpiece"),
        "bert-rank": ("BertForSequenceClassification", tr.BertConfig(**ENCODER, num_labels=1), "wordpiece"),
        "nomic-bert": ("NomicBertModel", tr.NomicBertConfig(**ENCODER), "wordpiece"),
        "xlm-roberta": ("XLMRobertaModel", tr.XLMRobertaConfig(**ROBERTA), "unigram"),
        "xlm-roberta-rank": (
            "XLMRobertaForSequenceClassification", tr.XLMRobertaConfig(**ROBERTA, num_labels=1), "unigram",
        ),
        "roberta": ("RobertaModel", tr.RobertaConfig(**ROBERTA), "bytes"),
        "roberta-rank": ("RobertaForSequenceClassification", tr.RobertaConfig(**ROBERTA, num_labels=1), "bytes"),
    }  # fmt: skip


def untrained(kind: str, names: list[str]) -> tuple[Tokenizer, Any]:
    """A tokenizer of this kind, and who trains it."""
    how: dict[str, Any] = {"vocab_size": 512, "special_tokens": names, "show_progress": False}
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer, trainers.WordPieceTrainer(**how)
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer, trainers.UnigramTrainer(unk_token="<unk>", **how)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **how)


@functools.cache
def encoder_tokenizer(kind: str) -> tr.PreTrainedTokenizerFast:
    """WordPiece with [CLS] and [SEP], or unigram or byte-level BPE with <s> and </s>."""
    bert = kind == "wordpiece"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] if bert else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer, trainer = untrained(kind, names)
    tokenizer.train_from_iterator(corpus(), trainer)
    first, last = ("[CLS]", "[SEP]") if bert else ("<s>", "</s>")
    ids = [(name, tokenizer.token_to_id(name)) for name in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B {last}", special_tokens=ids
    )
    roles = ("pad", "unk", "cls", "sep", "mask") if bert else ("bos", "pad", "eos", "unk", "mask")
    named = {f"{role}_token": name for role, name in zip(roles, names, strict=True)}
    return tr.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def make_encoder(case: str, folder: Path) -> Any:
    torch.manual_seed(1)
    name, config, kind = encoders()[case]
    model = getattr(tr, name)(config).float().eval()
    randomize(model)
    model.save_pretrained(folder)
    encoder_tokenizer(kind).save_pretrained(folder)
    return model


def randomize(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.08)


SPLITS = {"llama-3.1": LLAMA3, "gemma": "gpt2", "mixtral": "digits", "mistral": TEKKEN, "qwen3moe": GPT4O}
MOE = {
    "mixtral", "qwen2moe", "qwen3moe", "granitemoe", "granitemoeshared", "deepseek2", "deepseek3", "deepseek3-yarn",
}  # fmt: skip
CASES = tuple(cases())
ENCODERS = tuple(encoders())


def make(case: str, folder: Path, config: dict[str, Any] | None = None, **save: Any) -> Any:
    """The model of this case with random weights, saved with its tokenizer; float32. ``config``: changes to it."""
    torch.manual_seed(1)
    wanted = cases()[case]
    for name, value in (config or {}).items():
        setattr(wanted, name, value)
    model = tr.AutoModelForCausalLM.from_config(wanted).float().eval()
    randomize(model)
    model.save_pretrained(folder, **save)
    bpe(SPLITS.get(case, QWEN2), wanted.vocab_size - 4).save_pretrained(folder)
    return model


def probe() -> list[int]:
    """180 ids all over the vocabulary."""
    return [int(i) for i in torch.randint(4, 508, (180,), generator=torch.Generator().manual_seed(5))]


def logits(model: Any, tokens: list[int]) -> Any:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()
