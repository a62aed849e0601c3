"""Which row a checkpoint's class has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from converters.errors import Unsupported
from converters.projectors.clip import llava
from converters.projectors.gemma import gemma3
from converters.projectors.qwen import qwen2, qwen25
from converters.projectors.table import Projector, Settings

ROWS: Mapping[str, Callable[[Settings], Projector]] = {
    "LlavaForConditionalGeneration": llava,
    "Gemma3ForConditionalGeneration": gemma3,
    "Qwen2VLForConditionalGeneration": qwen2,
    "Qwen2_5_VLForConditionalGeneration": qwen25,
}


def of_checkpoint(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Projector | None:
    """None for a model that does not see. ``config``, ``preprocessor``: config.json and preprocessor_config.json.

    Unsupported for a model that sees in a way that is not known here.
    """
    if "vision_config" not in config:
        return None
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if name not in ROWS:
        raise Unsupported(
            f'the vision tower of "{name[:80]}" cannot be converted - those of {", ".join(sorted(ROWS))} can; '
            "give a ready-made projector (mmproj) GGUF beside the model"
        )
    return ROWS[name](Settings(config, preprocessor))
