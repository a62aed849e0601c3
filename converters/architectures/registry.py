"""All rows of the table, found by the class name of transformers or by the architecture of a GGUF."""

from __future__ import annotations

from converters.architectures import (
    bert,
    cohere,
    deepseek,
    gemma,
    glm,
    gpt,
    granite,
    llama,
    olmo,
    phi,
    qwen,
    smollm,
    stablelm,
)  # fmt: skip
from converters.architectures.table import Architecture
from converters.errors import Unsupported
from converters.gguf.metadata import Metadata

FAMILIES = (llama, qwen, gemma, phi, granite, smollm, olmo, stablelm, gpt, cohere, deepseek, glm, bert)
ROWS: tuple[Architecture, ...] = tuple(row for family in FAMILIES for row in family.ROWS)


def of_class(name: str) -> Architecture:
    for row in ROWS:
        if name in row.classes:
            return row
    known = ", ".join(sorted(row.classes[0] for row in ROWS))
    raise Unsupported(f'unsupported architecture "{name}" - supported are {known}')


def of_gguf(metadata: Metadata) -> Architecture:
    name = str(metadata.get("general.architecture", ""))
    for row in ROWS:
        if row.gguf == name and row.when(metadata):
            return row
    known = ", ".join(sorted({row.gguf for row in ROWS}))
    raise Unsupported(f'a GGUF of the architecture "{name}" cannot be taken back - supported are {known}')
