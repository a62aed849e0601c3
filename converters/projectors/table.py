"""The row type of projectors: which tensors of a checkpoint are which of the file, and which settings are which keys.

Names of the file are those of llama.cpp's ``tools/mtmd/clip-impl.h``. Blocks are ``v.blk.N``, what brings their output
to the width of the text model is ``mm``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters.dequant.stored import Floats, Stored
from converters.errors import InvalidSource, Unsupported

Value = bool | int | float | str | list[float]
Step = Callable[[Floats], tuple[Floats, ...]]
OF_TEXT = re.compile(r"(^|\.)(language_model|lm_head|embed_tokens)\b|^model\.(layers|norm|embed_tokens)\.")


def keep(array: Floats) -> tuple[Floats, ...]:
    return (array,)


def plus_one(array: Floats) -> tuple[Floats, ...]:
    """Gemma's RMSNorm applies 1 + w; the file holds what is applied."""
    return (array + np.float32(1),)


def first_last(array: Floats) -> tuple[Floats, ...]:
    """mtmd puts the class token behind the patches, and with it its place."""
    return (np.roll(array, -1, axis=0),)


def thirds(array: Floats) -> tuple[Floats, ...]:
    """q, k and v of one fused matrix."""
    if len(array) % 3:
        raise InvalidSource(f"{len(array)} fused rows are not three times as many")
    first, second, third = np.split(array, 3)
    return first, second, third


def frames(array: Floats) -> tuple[Floats, ...]:
    """A convolution over two frames (out, in, 2, height, width) as two over one."""
    if array.ndim != 5 or array.shape[2] != 2:
        raise InvalidSource("the patch embedding does not span two frames")
    return array[:, :, 0], array[:, :, 1]


@dataclass(frozen=True, slots=True)
class Tensor:
    """``hf`` is a pattern with ``{n}`` for a block and ``*`` for weight or bias; ``gguf`` as many names as the step
    makes arrays."""

    hf: str
    gguf: tuple[str, ...]
    step: Step = keep

    def match(self, name: str) -> tuple[str, ...] | None:
        """The names in the file of the tensor ``name`` of the checkpoint."""
        pattern = re.escape(self.hf).replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\*", r"(?P<s>weight|bias)")
        found = re.fullmatch(pattern, name)
        if found is None:
            return None
        parts = {"n": "", "s": "weight"} | found.groupdict()
        return tuple(to.replace("{n}", parts["n"]).replace("*", parts["s"]) for to in self.gguf)


@dataclass(frozen=True, slots=True)
class Projector:
    """``keys`` of the file without those that all have; ``drop``: tensors that nothing is computed with."""

    type: str
    tensors: tuple[Tensor, ...]
    keys: Mapping[str, Value]
    drop: str = r"$^"
    f32: frozenset[str] = field(default_factory=frozenset)

    def outputs(self, tensors: Mapping[str, Stored]) -> Iterator[tuple[tuple[str, ...], Stored, Step]]:
        """(names in the file, what they are made of, how). InvalidSource for what this row does not know."""
        for name, stored in tensors.items():
            if OF_TEXT.search(name):
                continue
            own = re.sub(r"^model\.(?=visual|vision_tower|multi_modal_projector)", "", name)
            own = re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", own)  # transformers 5
            if re.search(self.drop, own):
                continue
            found = next(((names, row.step) for row in self.tensors if (names := row.match(own))), None)
            if found is None:
                raise InvalidSource(f'tensor "{name}" has no place in a projector of the type {self.type}')
            yield found[0], stored, found[1]


def blocks(hf: str, *rows: tuple[str, str | tuple[str, ...]] | tuple[str, tuple[str, ...], Step]) -> tuple[Tensor, ...]:
    """Rows of one block without their common beginnings, weight or bias."""
    made = []
    for name, to, *step in rows:
        targets = tuple(f"v.blk.{{n}}.{target}.*" for target in ((to,) if isinstance(to, str) else to))
        made.append(Tensor(f"{hf}{{n}}.{name}.*", targets, *step))
    return tuple(made)


class Settings:
    """config.json's part about seeing, read with complaints that name the setting."""

    def __init__(self, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> None:
        vision, text = config.get("vision_config"), config.get("text_config")
        if not isinstance(vision, dict):
            raise InvalidSource('config.json has no "vision_config"')
        self.whole = config
        self.vision = vision
        self.text = text if isinstance(text, dict) else config
        self.preprocessor = preprocessor

    def size(self, name: str, default: int = 0, where: str = "vision") -> int:
        value = {"vision": self.vision, "text": self.text, "whole": self.whole}[where].get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise InvalidSource(f'config.json lacks "{name}", or it is no size')
        return value

    def number(self, name: str, default: float) -> float:
        value = self.vision.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidSource(f'config.json: "{name}" is no number')
        return float(value)

    def activation(self, default: str) -> dict[str, Value]:
        """mtmd knows three; none of the keys means the quick GELU of CLIP."""
        name = str(self.vision.get("hidden_act", default))
        known: dict[str, dict[str, Value]] = {
            "quick_gelu": {"clip.use_gelu": False},
            "gelu": {"clip.use_gelu": True},
            "gelu_pytorch_tanh": {"clip.use_gelu": True},
            "silu": {"clip.use_gelu": False, "clip.use_silu": True},
        }
        if name not in known:
            raise Unsupported(f'"hidden_act": "{name[:40]}" of the vision tower is not known to llama.cpp')
        return known[name]

    def colours(self, default: tuple[float, float, float]) -> dict[str, Value]:
        """Mean and deviation that the pixels are brought to."""
        found: dict[str, Value] = {}
        for name in ("image_mean", "image_std"):
            value = self.preprocessor.get(name, list(default if name == "image_mean" else (0.5, 0.5, 0.5)))
            if not isinstance(value, list) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
                raise InvalidSource(f'preprocessor_config.json: "{name}" is not three numbers')
            found[f"clip.vision.{name}"] = [float(v) for v in value]
        return found

    def common(
        self, *, width: str, feed_forward: int, count: int, heads: str, image: int, epsilon: float
    ) -> dict[str, Value]:
        at = "clip.vision."
        return {
            f"{at}image_size": image,
            f"{at}patch_size": self.size("patch_size"),
            f"{at}embedding_length": self.size(width),
            f"{at}feed_forward_length": feed_forward,
            f"{at}block_count": count,
            f"{at}projection_dim": self.size("hidden_size", where="text"),
            f"{at}attention.head_count": self.size(heads),
            f"{at}attention.layer_norm_epsilon": epsilon,
        }
