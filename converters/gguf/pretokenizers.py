"""llama.cpp's pre-tokenizers by name, as the steps that ``tokenizer.json`` writes for them.

Used three ways: to guess the name of a checkpoint's pre-tokenizer by its structure, as candidates to be tried where
the structure is unknown, and to write a ``tokenizer.json`` for a GGUF. Which one it is, behaviour decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PUNCTUATION = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
BLANKS = r"|\s+(?!\S)|\s+"
WORD = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
LLAMA3 = CONTRACTIONS + WORD + r"|\p{N}{1,3}" + PUNCTUATION + BLANKS
QWEN2 = CONTRACTIONS + WORD + r"|\p{N}" + PUNCTUATION + BLANKS
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+" + BLANKS
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# Words that begin a new token where the case changes.
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s"
TEKKEN = CASED % ("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+" + BLANKS
GPT4O = (
    CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?")
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+" + BLANKS
)  # fmt: skip
DEEPSEEK_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+" + BLANKS
).replace('\\"', '"')
CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
SEED = CONTRACTIONS + WORD + r"|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+" + BLANKS

# A step: ("split", expression), ("digits", each alone), ("punctuation", behaviour), ("bytes", with GPT-2's expression)
Step = tuple[str, Any]
BYTES, GPT2 = ("bytes", False), ("bytes", True)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """``names``: the first is written, all are read. ``whole``: a word that is a token is not merged from pieces."""

    names: tuple[str, ...]
    steps: tuple[Step, ...]
    whole: bool = False


TABLE = (
    PreTokenizer(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "glm4"),
        (("split", LLAMA3), BYTES),
        whole=True,
    ),
    PreTokenizer(("dbrx", "smaug-bpe", "chatglm-bpe"), (("split", LLAMA3), BYTES)),
    PreTokenizer(
        ("qwen2", "stablelm2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan", "solar-open", "grok-2"),
        (("split", QWEN2), BYTES),
    ),
    PreTokenizer(("qwen35",), (("split", QWEN35), BYTES)),
    PreTokenizer(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "gigachat", "modern-bert", "mellum", "a.x-4.0",
         "roberta-bpe", "trillion", "granite-docling", "jina-v2-code", "jina-v1-en"),
        (GPT2,),
    ),
    PreTokenizer(
        ("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"),
        (("digits", True), GPT2),
    ),
    PreTokenizer(("tekken",), (("split", TEKKEN), BYTES), whole=True),
    PreTokenizer(("gpt-4o", "llama4", "kanana2", "minimax-m2"), (("split", GPT4O), BYTES)),
    PreTokenizer(
        ("deepseek-v3", "hunyuan-dense", "joyai-llm"),
        (("split", r"\p{N}{1,3}"), ("split", CJK), ("split", DEEPSEEK_WORDS), BYTES),
    ),
    PreTokenizer(
        ("deepseek-coder",),
        (("split", r"[\r\n]"), ("split", r"\s?\p{L}+"), ("split", r"\s?\p{P}+"), ("split", "[一-龥ࠀ-一가-퟿]+"),
         ("digits", True), BYTES),
    ),
    PreTokenizer(
        ("falcon",),
        (("punctuation", "Contiguous"), GPT2, ("digits", False), ("split", "[0-9][0-9][0-9]")),
    ),
    PreTokenizer(("seed-coder",), (("split", SEED), BYTES)),
    PreTokenizer(
        ("minicpm5",),
        (("split", r"\p{N}{1,3}"), ("split", CONTRACTIONS + WORD + r"|\p{N}+" + PUNCTUATION + BLANKS), BYTES),
        whole=True,
    ),
    PreTokenizer(("ufakzeka",), (("split", WORD[1:] + r"|\p{N}" + PUNCTUATION + BLANKS), BYTES)),
)  # fmt: skip
# Names that only behaviour finds: their structure in tokenizer.json varies.
MORE = ("deepseek-llm", "bailingmoe", "exaone-moe", "jais-2", "viking", "poro-chat", "chameleon", "superbpe",
        "tiny_aya", "youtu", "afmoe", "kimi-k2", "laguna", "spark2_5", "default")  # fmt: skip


# llama.cpp tells upper and lower case apart for Latin letters only here: other scripts are cut a little differently.
APPROXIMATE = frozenset({"tekken", "gpt-4o", "tiny_aya"})
LATIN_END = "\u0250"


def latin(text: str) -> str:
    """The lines of a text that every one of them should cut as the original does."""
    return "".join(line for line in text.splitlines(keepends=True) if max(line) < LATIN_END)


def named(name: str) -> PreTokenizer | None:
    return next((row for row in TABLE if name in row.names), None)


def candidates(tokenizer: Mapping[str, Any]) -> list[str]:
    """Every name, those first whose structure the ``tokenizer.json`` has; the rest as it splits or not."""
    steps, whole = steps_of(tokenizer.get("pre_tokenizer")), bool((tokenizer.get("model") or {}).get("ignore_merges"))
    ranked = sorted(TABLE, key=lambda row: (row.steps != steps, row.whole != whole))
    return [*(row.names[0] for row in ranked), *MORE]


def known_structure(tokenizer: Mapping[str, Any]) -> str | None:
    """The name whose steps are exactly those of this ``tokenizer.json``."""
    steps, whole = steps_of(tokenizer.get("pre_tokenizer")), bool((tokenizer.get("model") or {}).get("ignore_merges"))
    return next((row.names[0] for row in TABLE if row.steps == steps and row.whole == whole), None)


def steps_of(part: Any) -> tuple[Step, ...]:
    """The ``pre_tokenizer`` of a tokenizer.json as steps; what has no step here becomes ("other", type)."""
    if not isinstance(part, Mapping):
        return ()
    kind = part.get("type")
    if kind == "Sequence":
        return tuple(step for item in part.get("pretokenizers") or () for step in steps_of(item))
    if kind == "ByteLevel":
        return (("bytes", bool(part.get("use_regex", True))),)
    if kind == "Digits":
        return (("digits", bool(part.get("individual_digits"))),)
    if kind == "Punctuation":
        return (("punctuation", part.get("behavior")),)
    expression = (part.get("pattern") or {}).get("Regex")
    if kind == "Split" and part.get("behavior") == "Isolated" and not part.get("invert") and expression:
        return (("split", expression),)
    if kind == "Split" and part.get("behavior") == "Removed" and part.get("invert") and expression:
        return (("split", expression),)  # keeping only what matches: the same for expressions that match everything
    return (("other", kind),)


def to_json(pre: PreTokenizer) -> dict[str, Any]:
    """The ``pre_tokenizer`` of a tokenizer.json."""
    made = [_step(kind, value) for kind, value in pre.steps]
    return made[0] if len(made) == 1 else {"type": "Sequence", "pretokenizers": made}


def _step(kind: str, value: Any) -> dict[str, Any]:
    if kind == "split":
        return {"type": "Split", "pattern": {"Regex": value}, "behavior": "Isolated", "invert": False}
    if kind == "digits":
        return {"type": "Digits", "individual_digits": value}
    if kind == "punctuation":
        return {"type": "Punctuation", "behavior": value}
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": value}
