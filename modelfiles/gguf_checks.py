"""What the metadata of a GGUF must agree on before any code of llama.cpp may see it.

Types of the tokenizer's keys (read there without a check of their width), lengths that must be equal, and
hyper-parameters that would otherwise divide by zero or ask for endless memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelfiles.errors import GGUFError
from modelfiles.gguf_types import INTEGERS

if TYPE_CHECKING:
    from modelfiles.gguf import Value

MAX_VOCABULARY = 2 * 2**20
ABSENT = 2**32 - 1  # how a u32 says "no such token"

# The types a key of the tokenizer may have; "array of x" as [x].
TOKENIZER: Mapping[str, frozenset[str]] = {
    "tokenizer.ggml.model": frozenset({"string"}),
    "tokenizer.ggml.pre": frozenset({"string"}),
    "tokenizer.ggml.tokens": frozenset({"[string]"}),
    "tokenizer.ggml.scores": frozenset({"[f32]", "[i32]"}),
    "tokenizer.ggml.token_type": frozenset({"[i32]"}),
    "tokenizer.ggml.merges": frozenset({"[string]"}),
    "tokenizer.ggml.added_tokens": frozenset({"[string]"}),
    "tokenizer.ggml.suppress_tokens": frozenset({"[i32]"}),
    "tokenizer.ggml.precompiled_charsmap": frozenset({"[u8]", "[i8]"}),
    "tokenizer.ggml.eos_token_ids": frozenset({"[i32]", "[u32]"}),
    "tokenizer.ggml.token_type_count": INTEGERS,
    "tokenizer.huggingface.json": frozenset({"string"}),
    "tokenizer.rwkv.world": frozenset({"string"}),
    "tokenizer.chat_template": frozenset({"string"}),
    "tokenizer.chat_templates": frozenset({"[string]"}),
}
FLAG = re.compile(r"tokenizer\.ggml\.(add_\w+|remove_extra_whitespaces|escape_whitespaces|normalizer\.\w+)")
TOKEN_ID = re.compile(r"tokenizer\.ggml\.\w+_token_id")
NAMED_TEMPLATE = re.compile(r"tokenizer\.chat_template\.\w+")
# llama.cpp falls back to a default for a bad id of any other name, and files with one are about.
ENDS = frozenset(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot", "eom"))

ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# Models without attention say that they have 0 heads.
HEADLESS = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})

# Last part of an architecture's key → smallest and largest value.
LIMITS: Mapping[str, tuple[int, int]] = {
    "attention.head_count": (1, 1024),
    "attention.head_count_kv": (1, 1024),
    "attention.key_length": (1, 2**16),
    "attention.value_length": (1, 2**16),
    "block_count": (1, 512),  # more ends llama.cpp's process
    "context_length": (1, 2**31 - 1),
    "embedding_length": (1, 2**20),
    "feed_forward_length": (0, 2**24),
    "expert_count": (0, 1024),
    "expert_used_count": (0, 1024),
    "expert_group_count": (0, 1024),
    "expert_group_used_count": (0, 1024),
    "nextn_predict_layers": (0, 512),
    "rope.dimension_count": (0, 2**16),
    "vocab_size": (1, MAX_VOCABULARY),
    "pooling_type": (0, 4),
}

ROPE_SCALING = ("none", "linear", "yarn", "longrope")
EPSILONS = tuple(f"attention.{name}_epsilon" for name in ("layer_norm", "layer_norm_rms", "group_norm"))


def check(metadata: Mapping[str, Value], types: Mapping[str, str]) -> None:
    _check_architecture(metadata, types)
    for key in metadata:
        if key.startswith("tokenizer."):
            _check_tokenizer_type(key, _type(key, metadata, types))
    _check_vocabulary(metadata)
    architecture = metadata.get("general.architecture", "")
    for prefix in (f"{architecture}", f"{architecture}.vision", f"{architecture}.audio"):
        _check_settings(prefix, metadata, headless=architecture in HEADLESS)


def _type(key: str, metadata: Mapping[str, Value], types: Mapping[str, str]) -> str:
    value = metadata[key]
    return types[key] if isinstance(value, int | float | str) else f"[{value.type}]"


def _check_architecture(metadata: Mapping[str, Value], types: Mapping[str, str]) -> None:
    for key in ("general.architecture", "general.type", "general.name"):
        if key in metadata and types[key] != "string":
            raise GGUFError(f"{key} must be a string")
    name = metadata.get("general.architecture")
    if isinstance(name, str) and not ARCHITECTURE.fullmatch(name):
        raise GGUFError("general.architecture is not a name")
    if types.get("general.file_type", "u32") not in INTEGERS:
        raise GGUFError("general.file_type must be an integer")


def _check_tokenizer_type(key: str, kind: str) -> None:
    if key in TOKENIZER:
        allowed = TOKENIZER[key]
    elif TOKEN_ID.fullmatch(key):
        allowed = INTEGERS
    elif FLAG.fullmatch(key):
        allowed = frozenset({"bool"})
    elif NAMED_TEMPLATE.fullmatch(key):
        allowed = frozenset({"string"})
    else:
        return  # a key that llama.cpp does not know either
    if kind not in allowed:
        raise GGUFError(f"{key[:80]} has the wrong type {kind}")


def _check_vocabulary(metadata: Mapping[str, Value]) -> None:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None or isinstance(tokens, int | float | str):
        return
    if not 1 <= tokens.length <= MAX_VOCABULARY:
        raise GGUFError(f"a vocabulary of {tokens.length} tokens; from 1 to {MAX_VOCABULARY} are possible")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        value = metadata.get(key)
        if value is not None and not isinstance(value, int | float | str) and value.length != tokens.length:
            raise GGUFError(f"{key} has {value.length} entries for {tokens.length} tokens")
    for key in ENDS & metadata.keys():
        number = metadata[key]
        if isinstance(number, int) and number not in (ABSENT, -1) and not 0 <= number < tokens.length:
            raise GGUFError(f"{key} {number} is outside the vocabulary of {tokens.length} tokens")


def _check_settings(prefix: str, metadata: Mapping[str, Value], *, headless: bool) -> None:
    for name, (low, high) in LIMITS.items():
        key = f"{prefix}.{name}"
        if key not in metadata:
            continue
        value = metadata[key]
        if isinstance(value, bool | float | str):
            raise GGUFError(f"{key} must be an integer")
        per_layer = not isinstance(value, int)
        # Layers without attention, or without experts, say 0 in a list of all layers.
        least = 0 if per_layer or (headless and name.startswith("attention.head_count")) else low
        for number in _numbers(key, value):
            if not least <= number <= high:
                raise GGUFError(f"{key} is {number}; from {least} to {high} is possible")
    for key in (f"{prefix}.{name}" for name in EPSILONS):
        value = metadata.get(key, 0.0)
        if not isinstance(value, float) or not 0 <= value <= 1:
            raise GGUFError(f"{key} must be a number from 0 to 1")
    for key, value in metadata.items():
        if isinstance(value, float) and not math.isfinite(value) and key.startswith(f"{prefix}."):
            raise GGUFError(f"{key[:80]} must be a finite number")
    _check_relations(prefix, metadata)


def _numbers(key: str, value: Value) -> list[int]:
    if isinstance(value, int):
        return [value]
    if isinstance(value, float | str) or value.type not in INTEGERS or value.inline is None:
        raise GGUFError(f"{key} must be an integer or a short list of integers")
    return [int(v) for v in value.values()]


def _check_relations(prefix: str, metadata: Mapping[str, Value]) -> None:
    def number(name: str) -> int | None:
        value = metadata.get(f"{prefix}.{name}")
        return value if isinstance(value, int) else None

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    width = number("embedding_length")
    if heads and width and number("attention.key_length") is None and width % heads:
        raise GGUFError(f"{prefix}.embedding_length {width} is no multiple of {heads} heads")
    if heads and kv_heads and heads % kv_heads:
        raise GGUFError(f"{prefix}.attention.head_count {heads} is no multiple of {kv_heads} KV heads")
    if (number("nextn_predict_layers") or 0) > (number("block_count") or 512):
        raise GGUFError(f"{prefix}.nextn_predict_layers is more than the layers there are")
    if metadata.get(f"{prefix}.rope.scaling.type", "none") not in ROPE_SCALING:
        raise GGUFError(f"{prefix}.rope.scaling.type must be one of {', '.join(ROPE_SCALING)}")
    _check_experts(prefix, metadata)


def _check_experts(prefix: str, metadata: Mapping[str, Value]) -> None:
    """llama.cpp asserts each of these."""

    def number(name: str) -> int:
        value = metadata.get(f"{prefix}.{name}", 0)
        return max(_numbers(f"{prefix}.{name}", value), default=0)

    experts, used = number("expert_count"), number("expert_used_count")
    if used > experts or (experts > 1 and not used):
        raise GGUFError(f"{prefix}.expert_used_count {used} does not fit {experts} experts")
    groups, groups_used = number("expert_group_count"), number("expert_group_used_count")
    if groups and (groups >= experts or experts % groups):
        raise GGUFError(f"{prefix}.expert_group_count {groups} does not divide {experts} experts")
    if groups > 1 and not 0 < groups_used < groups:
        raise GGUFError(f"{prefix}.expert_group_used_count {groups_used} does not fit {groups} groups")
