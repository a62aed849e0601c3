"""What the quantization types of llama.cpp ask for, and how types of single tensors are asked for. Facts and parsing.

Facts from llama.cpp's ``llama-quant.cpp``: which tensor type a file type mostly consists of, which need an importance
matrix, and what rows that a type's blocks do not divide are stored as instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from modelfiles.errors import QuantizationError
from modelfiles.gguf_types import FILE_TYPES, TENSOR_TYPES

ALIASES = MappingProxyType({"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4_MOE": "MXFP4"})
# NVFP4 can be read, but libllama cannot make it.
FILE_NUMBERS = MappingProxyType({name: number for number, name in FILE_TYPES.items() if name != "NVFP4"})
PLAIN = frozenset({"F32", "F16", "BF16"})
INTEGERS = frozenset({"I8", "I16", "I32", "I64"})
NEEDS_IMATRIX = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"})
# As types of single tensors; the embedding and the output matrix may have them without.
TENSORS_NEED_IMATRIX = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"})
# One magnitude per block of weights: only what was trained so survives it.
FEW_VALUES = frozenset({"TQ1_0", "TQ2_0", "Q1_0", "Q2_0"})
# Activations of a running model, integers, or what libllama cannot make.
NOT_FOR_WEIGHTS = frozenset({"Q8_1", "Q8_K", "F64", "NVFP4"}) | INTEGERS
BLOCKS = MappingProxyType({kind.name: kind.block for kind in TENSOR_TYPES.values()})
STORED = MappingProxyType({kind.name: (kind.block, kind.size) for kind in TENSOR_TYPES.values()})
FOR_WEIGHTS = tuple(name for name in BLOCKS if name not in NOT_FOR_WEIGHTS)
SUBSTITUTES = frozenset({"IQ4_NL", "Q4_0", "Q5_0", "Q5_1", "Q8_0", "F16"})
# File types whose name is not that of the tensor type that most of their tensors have.
MAIN_TYPES = MappingProxyType(
    {"IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "Q2_K_S": "Q2_K"}
    | {f"Q{bits}_K_{size}": f"Q{bits}_K" for bits in (3, 4, 5) for size in "SML"}
)
NEVER_QUANTIZED = re.compile(r"_norm\.|ffn_gate_inp|conv|position_embd|token_types|\.bias$|^rope_")
MAX_RULES = 1024
MAX_PATTERN = 256


def file_type_named(text: str) -> str | None:
    """The file type of this name in any case, None when llama.cpp cannot make it."""
    name = ALIASES.get(text.upper(), text.upper())
    return name if name in FILE_NUMBERS else None


def main_type(file_type: str) -> str:
    """The tensor type that most tensors of such a file have: ``Q4_K_M`` → ``Q4_K``."""
    return MAIN_TYPES.get(file_type, file_type)


def needs_imatrix_text(name: str) -> str:
    return (
        f"{name} needs an importance matrix, without one the model would write nonsense: give one (imatrix), "
        "or have one computed from a text (calibration) or from the model's own words (calibrate_self)"
    )


# -- types of single tensors --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors whose whole name ``pattern`` matches get ``type``; of several rules the first that matches counts."""

    pattern: re.Pattern[str]
    type: str

    def __str__(self) -> str:
        return f"{self.pattern.pattern}={self.type}"


def parse_rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    """``pattern=type`` pairs. The pattern is a regular expression for the whole name. QuantizationError."""
    if len(texts) > MAX_RULES:
        raise QuantizationError(f"more than {MAX_RULES} tensor types were given")
    return tuple(map(parse_rule, texts))


def parse_rule(text: str) -> Rule:
    pattern, equals, name = text.rpartition("=")
    if not equals or not pattern:
        raise QuantizationError(f"tensor type {text!r} must be PATTERN=TYPE, such as '.*ffn_down.*=Q6_K'")
    name = name.strip().upper()
    if name not in FOR_WEIGHTS:
        raise QuantizationError(f"tensor type {name} is none of {', '.join(FOR_WEIGHTS)}")
    if len(pattern) > MAX_PATTERN:
        raise QuantizationError(f"a pattern for tensors is over {MAX_PATTERN} characters")
    try:
        return Rule(re.compile(pattern), name)
    except (re.error, OverflowError, RecursionError) as error:
        raise QuantizationError(f"tensor type {text!r}: the pattern is no regular expression: {error}") from None


def assign(rules: Sequence[Rule], names: Iterable[str]) -> dict[str, Rule]:
    """The rule of each tensor that has one."""
    found: dict[str, Rule] = {}
    for name in names:
        rule = next((rule for rule in rules if rule.pattern.fullmatch(name)), None)
        if rule is not None:
            found[name] = rule
    return found


# -- rows that a type cannot hold ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sized:
    """A tensor as far as quantization cares; ``width``: the length of its rows."""

    name: str
    width: int
    type: str
    dimensions: int = 2


def substitutes(file_type: str, tensors: Iterable[Sized]) -> tuple[Sized, ...]:
    """The tensors that a type with other blocks stands in for, because their rows are no multiple of the type's."""
    block = BLOCKS.get(main_type(file_type), 1)
    return tuple(
        t
        for t in tensors
        if t.dimensions > 1 and t.width % block and t.type in SUBSTITUTES and not NEVER_QUANTIZED.search(t.name)
    )


def substitutes_text(file_type: str, found: Sequence[Sized], total: int) -> str:
    """One sentence for people. ``total``: how many tensors the model has."""
    main = main_type(file_type)
    widths = " or ".join(str(width) for width in sorted({t.width for t in found}))
    types = ", ".join(f"{name} ({count})" for name, count in sorted(Counter(t.type for t in found).items()))
    return (
        f"{len(found)} of {total} tensors have rows of {widths} values, no multiple of the {BLOCKS[main]} that {main} "
        f"packs together; they are stored as {types}, so the model is larger than {file_type} suggests"
    )


# -- what a model consists of -------------------------------------------------------------------------------


def bits_per_weight(tensors: Iterable[tuple[str, int]]) -> tuple[int, float]:
    """(bytes, bits per weight) of tensors given as (type, number of elements)."""
    nbytes = elements = 0
    for name, count in tensors:
        nbytes += count * STORED[name][1] // STORED[name][0]
        elements += count
    return nbytes, 8 * nbytes / elements if elements else 0.0
