"""The numbers of the GGUF format: value types, tensor types with their block sizes, file types, split names.

Facts only; nothing here opens a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

MAGIC = b"GGUF"
VERSIONS = (2, 3)

# Value types of metadata: number → (name, struct code). "bool" is one byte; strings and arrays have no fixed size.
SCALARS = MappingProxyType(
    {
        0: ("u8", "B"),
        1: ("i8", "b"),
        2: ("u16", "H"),
        3: ("i16", "h"),
        4: ("u32", "I"),
        5: ("i32", "i"),
        6: ("f32", "f"),
        7: ("bool", "?"),
        10: ("u64", "Q"),
        11: ("i64", "q"),
        12: ("f64", "d"),
    }
)
STRING, ARRAY = 8, 9
INTEGERS = frozenset({"u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"})


@dataclass(frozen=True, slots=True)
class TensorType:
    """``block`` elements are stored in ``size`` bytes."""

    name: str
    block: int
    size: int


TENSOR_TYPES = MappingProxyType(
    {
        0: TensorType("F32", 1, 4),
        1: TensorType("F16", 1, 2),
        2: TensorType("Q4_0", 32, 18),
        3: TensorType("Q4_1", 32, 20),
        6: TensorType("Q5_0", 32, 22),
        7: TensorType("Q5_1", 32, 24),
        8: TensorType("Q8_0", 32, 34),
        9: TensorType("Q8_1", 32, 36),
        10: TensorType("Q2_K", 256, 84),
        11: TensorType("Q3_K", 256, 110),
        12: TensorType("Q4_K", 256, 144),
        13: TensorType("Q5_K", 256, 176),
        14: TensorType("Q6_K", 256, 210),
        15: TensorType("Q8_K", 256, 292),
        16: TensorType("IQ2_XXS", 256, 66),
        17: TensorType("IQ2_XS", 256, 74),
        18: TensorType("IQ3_XXS", 256, 98),
        19: TensorType("IQ1_S", 256, 50),
        20: TensorType("IQ4_NL", 32, 18),
        21: TensorType("IQ3_S", 256, 110),
        22: TensorType("IQ2_S", 256, 82),
        23: TensorType("IQ4_XS", 256, 136),
        24: TensorType("I8", 1, 1),
        25: TensorType("I16", 1, 2),
        26: TensorType("I32", 1, 4),
        27: TensorType("I64", 1, 8),
        28: TensorType("F64", 1, 8),
        29: TensorType("IQ1_M", 256, 56),
        30: TensorType("BF16", 1, 2),
        34: TensorType("TQ1_0", 256, 54),
        35: TensorType("TQ2_0", 256, 66),
        39: TensorType("MXFP4", 32, 17),
        40: TensorType("NVFP4", 64, 36),
        41: TensorType("Q1_0", 128, 18),
        42: TensorType("Q2_0", 64, 18),
    }
)

# general.file_type → what people call the file.
FILE_TYPES = MappingProxyType(
    {
        0: "F32",
        1: "F16",
        2: "Q4_0",
        3: "Q4_1",
        7: "Q8_0",
        8: "Q5_0",
        9: "Q5_1",
        10: "Q2_K",
        11: "Q3_K_S",
        12: "Q3_K_M",
        13: "Q3_K_L",
        14: "Q4_K_S",
        15: "Q4_K_M",
        16: "Q5_K_S",
        17: "Q5_K_M",
        18: "Q6_K",
        19: "IQ2_XXS",
        20: "IQ2_XS",
        21: "Q2_K_S",
        22: "IQ3_XS",
        23: "IQ3_XXS",
        24: "IQ1_S",
        25: "IQ4_NL",
        26: "IQ3_S",
        27: "IQ3_M",
        28: "IQ2_S",
        29: "IQ2_M",
        30: "IQ4_XS",
        31: "IQ1_M",
        32: "BF16",
        36: "TQ1_0",
        37: "TQ2_0",
        38: "MXFP4",
        39: "NVFP4",
        40: "Q1_0",
        41: "Q2_0",
    }
)
GUESSED = 1024  # a bit that says: the writer only guessed the file type

POOLING = MappingProxyType({0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"})

SPLIT_NAME = re.compile(r"(?P<prefix>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SplitName:
    """One of the files of a split model; ``index`` counts from 1."""

    prefix: str
    index: int
    count: int

    @classmethod
    def parse(cls, name: str) -> SplitName | None:
        """None for a file that is whole, or numbered as no split can be."""
        found = SPLIT_NAME.fullmatch(name)
        if not found:
            return None
        index, count = int(found["index"]), int(found["count"])
        return cls(found["prefix"], index, count) if 1 <= index <= count else None

    def file(self, index: int) -> str:
        return f"{self.prefix}-{index:05d}-of-{self.count:05d}.gguf"


def size_text(count: int) -> str:
    """A number of parameters as models are called by it: 113984 → ``114K``, 3.21e9 → ``3.2B``."""
    for unit, letter, decimals in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= unit:
            return f"{count / unit:.{0 if count % unit == 0 else decimals}f}{letter}"
    return str(count)
