"""What a model can do, told from its config, the header of its weights and the template in use.

Pure: takes what was read, opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelfiles import render
from modelfiles.errors import TemplateError
from modelfiles.gguf import Header
from server.store.model_config import ModelConfig

ORDER = ("completion", "tools", "insert", "vision", "embedding", "thinking", "image", "audio")

# What Ollama's built-in output parsers can take apart; a parser that is not here adds nothing.
PARSERS = {
    **dict.fromkeys(
        ("qwen3-thinking", "qwen3.5", "ornith", "qwen3-vl-thinking", "harmony", "cogito", "deepseek3", "glm-4.7",
         "nemotron-3-nano", "nemotron-3.5-nano", "gemma4", "lfm2-thinking", "laguna", "poolside-v1", "cohere"),
        ("tools", "thinking"),
    ),
    **dict.fromkeys(
        ("qwen3", "qwen3-coder", "qwen3-vl-instruct", "ministral", "olmo3", "functiongemma", "gemma4-no-thinking",
         "lfm2"),
        ("tools",),
    ),
    "olmo3-think": ("thinking",),
}  # fmt: skip


def of(config: ModelConfig, header: Header | None, projectors: Iterable[Header], go: str | None) -> tuple[str, ...]:
    """In Ollama's order. ``go``: the TEMPLATE layer in use, None where the weights' own Jinja speaks."""
    found = set(config.capabilities)
    if not found and header is not None:
        found = of_weights(header) | of_projectors(projectors)
    found |= of_template(go, header.chat_template if header is not None and go is None else None)
    found.update(PARSERS.get(config.parser, ()))
    if config.model_family in ("gptoss", "gpt-oss"):
        found.add("thinking")
    return (*(name for name in ORDER if name in found), *sorted(found.difference(ORDER)))


def of_weights(header: Header) -> set[str]:
    found = {"completion" if header.pooling is None else "embedding"}
    if header.setting("vision.block_count"):
        found.add("vision")
    if header.setting("audio.block_count"):
        found.add("audio")
    return found


def of_projectors(headers: Iterable[Header]) -> set[str]:
    found: set[str] = set()
    for header in headers:
        found.add("vision")
        if header.metadata.get("clip.has_audio_encoder") is True:
            found.add("audio")
    return found


def of_template(go: str | None, jinja: str | None) -> set[str]:
    """A template that does not parse can do nothing; whoever renders it says why."""
    try:
        return render.capabilities(go, jinja)
    except TemplateError:
        return set()
