"""How an embedding model pools its vectors: sentence-transformers' ``1_Pooling/config.json`` ↔ llama.cpp's key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters.checkpoint import Checkpoint
from converters.errors import Unsupported

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
FLAGS = {"pooling_mode_mean_tokens": MEAN, "pooling_mode_cls_token": CLS, "pooling_mode_lasttoken": LAST}
MODES = {"mean": MEAN, "cls": CLS, "lasttoken": LAST}
CONFIG = "1_Pooling/config.json"


def of_checkpoint(checkpoint: Checkpoint) -> int:
    """Mean where nothing is said: what sentence-transformers does with a plain encoder."""
    said: Mapping[str, Any] = checkpoint.optional_json(CONFIG)
    if not said:
        return MEAN
    on = [name for name, value in said.items() if name.startswith("pooling_mode_") and value is True]
    if mode := said.get("pooling_mode"):
        on = [f"pooling_mode_{mode}"]
    kinds = {FLAGS.get(name) or MODES.get(name.removeprefix("pooling_mode_")) for name in on}
    if len(kinds) != 1 or None in kinds:
        raise Unsupported(
            f"pooling by {', '.join(on) or 'nothing'} is unknown to llama.cpp; it knows mean, cls and last"
        )
    return int(next(iter(kinds)) or MEAN)


def pooling_config(kind: int, width: int) -> dict[str, Any]:
    return {"word_embedding_dimension": width, **{name: kind == number for name, number in FLAGS.items()}}


def modules() -> list[dict[str, Any]]:
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"))
    return [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
