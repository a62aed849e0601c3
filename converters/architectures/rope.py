"""RoPE settings, both ways. Frequencies that GGUF has no key for travel as small tensors.

Formulas: transformers' ``modeling_rope_utils`` and llama.cpp's ``llama-context.cpp`` (attention factors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.architectures.config import Config
from converters.errors import InvalidSource, Unsupported
from converters.gguf.metadata import Metadata

Array = NDArray[np.float32]
FREQUENCIES, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
SCALING = "rope.scaling."


@dataclass(frozen=True, slots=True)
class Rope:
    """``count``: write how many dimensions of a head are rotated; ``partial``: the share where config.json is silent.

    ``theta``: the base where config.json is silent. ``sliding``: sliding-window layers have a base of their own.
    ``head``: the setting that the rotated dimensions are a share of, where it is not the head's size.
    ``original_key``: the trained context is a setting of its own, also without scaling.
    """

    count: bool = True
    partial: float = 1.0
    theta: float = 10000.0
    sliding: bool = False
    head: str = ""
    original_key: bool = False

    def dimensions(self, config: Config) -> int:
        size = config.whole(self.head) if self.head else config.head_dim
        share = config.rope.get("partial_rotary_factor", config.get("rotary_pct", self.partial))
        return int(size * share)

    def add_keys(self, config: Config, metadata: Metadata, arch: str) -> None:
        rope = config.rope
        metadata.add(f"{arch}.rope.freq_base", "f32", rope.get("rope_theta", self.theta), "rope_theta")
        if self.count:
            metadata.add(f"{arch}.rope.dimension_count", "u32", self.dimensions(config))
        if self.sliding and config.sliding_rope_theta is not None:
            metadata.add(f"{arch}.rope.freq_base_swa", "f32", config.sliding_rope_theta)
        if self.original_key:
            original = rope.get("original_max_position_embeddings") or config.whole("max_position_embeddings")
            metadata.add(f"{arch}.{SCALING}original_context_length", "u32", original)
        kind = rope["rope_type"]
        if kind == "linear":
            metadata.add(f"{arch}.{SCALING}type", "string", "linear")
            metadata.add(f"{arch}.{SCALING}factor", "f32", _need(rope, "factor"))
        elif kind == "yarn":
            self._add_yarn(config, metadata, arch)
        elif kind in ("longrope", "su"):
            self._add_longrope(config, metadata, arch)
        elif kind not in ("default", "llama3", "mrope"):
            raise Unsupported(
                f'RoPE scaling "{kind}" cannot be expressed in GGUF; without rope_scaling in config.json the model '
                "keeps the context that it was trained with"
            )

    def _add_yarn(self, config: Config, metadata: Metadata, arch: str) -> None:
        rope, factor = config.rope, float(_need(config.rope, "factor"))
        metadata.add(f"{arch}.{SCALING}type", "string", "yarn")
        metadata.add(f"{arch}.{SCALING}factor", "f32", factor)
        original = rope.get("original_max_position_embeddings") or config.whole("max_position_embeddings")
        metadata.add(f"{arch}.{SCALING}original_context_length", "u32", original)
        for name in ("beta_fast", "beta_slow"):
            if rope.get(name) is not None:
                metadata.add(f"{arch}.{SCALING}yarn_{name}", "f32", rope[name])
        if (share := rope.get("mscale_all_dim")) and rope.get("mscale"):
            metadata.add(f"{arch}.{SCALING}yarn_log_multiplier", "f32", 0.1 * share)
        elif rope.get("attention_factor") is not None:
            # llama.cpp multiplies with its own 1 + 0.1 ln(factor).
            usual = 1 + 0.1 * math.log(factor) if factor > 1 else 1.0
            metadata.add(f"{arch}.{SCALING}attn_factor", "f32", rope["attention_factor"] / usual)

    def _add_longrope(self, config: Config, metadata: Metadata, arch: str) -> None:
        rope = config.rope
        original = _need(rope, "original_max_position_embeddings")
        scale = config.whole("max_position_embeddings") / original
        metadata.add(f"{arch}.{SCALING}type", "string", "longrope")
        metadata.add(f"{arch}.{SCALING}original_context_length", "u32", original)
        usual = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        metadata.add(f"{arch}.{SCALING}attn_factor", "f32", rope.get("attention_factor") or usual)

    def tensors(self, config: Config) -> dict[str, Array]:
        """Per-frequency factors that llama.cpp divides the frequencies by."""
        rope = config.rope
        if rope["rope_type"] == "llama3":
            return {FREQUENCIES: llama3_factors(rope, self.dimensions(config), self.theta)}
        if rope["rope_type"] in ("longrope", "su"):
            made = {LONG: _need(rope, "long_factor"), SHORT: _need(rope, "short_factor")}
            factors = {name: np.asarray(values, np.float32) for name, values in made.items()}
            if any(values.shape != (self.dimensions(config) // 2,) for values in factors.values()):
                raise InvalidSource("the long_factor and short_factor of rope_scaling do not fit the heads")
            return factors
        return {}

    def to_config(self, metadata: Metadata, arch: str) -> dict[str, Any]:
        def get(key: str) -> Any:
            return metadata.get(f"{arch}.{key}")

        rope: dict[str, Any] = {"rope_type": "default", "rope_theta": get("rope.freq_base") or self.theta}
        kind, factor = get(SCALING + "type"), get(SCALING + "factor")
        if kind in ("linear", "yarn") and factor:
            rope |= {"rope_type": kind, "factor": factor}
        if kind == "yarn":
            rope["original_max_position_embeddings"] = get(SCALING + "original_context_length")
            for name in ("beta_fast", "beta_slow"):
                if (value := get(f"{SCALING}yarn_{name}")) is not None:
                    rope[name] = value
            if (share := get(SCALING + "yarn_log_multiplier")) is not None:
                rope["mscale"] = rope["mscale_all_dim"] = round(share / 0.1, 6)
            elif (value := get(SCALING + "attn_factor")) is not None:
                rope["attention_factor"] = value * (1 + 0.1 * math.log(factor))
        if kind == "longrope":
            rope |= {"rope_type": "longrope", "attention_factor": get(SCALING + "attn_factor")}
            rope["original_max_position_embeddings"] = get(SCALING + "original_context_length")
        if self.partial != 1.0 or self.head or self.count:
            self._add_share(rope, metadata, arch)
        if self.sliding:
            local = {"rope_type": "default", "rope_theta": get("rope.freq_base_swa") or 10000.0}
            return {"rope_parameters": {"full_attention": rope, "sliding_attention": local}}
        original = {"original_max_position_embeddings": get(SCALING + "original_context_length")}
        return {"rope_parameters": rope, **(original if self.original_key else {})}

    def _add_share(self, rope: dict[str, Any], metadata: Metadata, arch: str) -> None:
        rotated = metadata.get(f"{arch}.rope.dimension_count")
        size = metadata.get(f"{arch}.attention.key_length")
        if size is None:
            size = metadata.get(f"{arch}.embedding_length") // metadata.get(f"{arch}.attention.head_count")
        if rotated and not self.head and rotated != size:
            rope["partial_rotary_factor"] = rotated / size


def restore_factors(config: dict[str, Any], factors: dict[str, Array]) -> None:
    """What the tensors say, into ``rope_parameters``. Unsupported when it is no formula that transformers has."""
    rope = config.get("rope_parameters") or {}
    if LONG in factors:
        rope["long_factor"], rope["short_factor"] = ([float(str(v)) for v in factors[n]] for n in (LONG, SHORT))
    if FREQUENCIES in factors and not np.all(factors[FREQUENCIES] == 1):
        rope |= {"rope_type": "llama3", **fit_llama3(factors[FREQUENCIES], rope["rope_theta"])}


def llama3_factors(rope: dict[str, Any], dimensions: int, theta: float) -> Array:
    frequency = 1.0 / rope.get("rope_theta", theta) ** (np.arange(0, dimensions, 2, dtype=np.float32) / dimensions)
    wavelength = 2 * np.pi / frequency
    low, high = _need(rope, "low_freq_factor"), _need(rope, "high_freq_factor")
    original, factor = _need(rope, "original_max_position_embeddings"), _need(rope, "factor")
    smooth = (original / wavelength - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    made = np.where(wavelength < original / high, 1, np.where(wavelength > original / low, factor, between))
    return made.astype(np.float32)


def fit_llama3(factors: Array, theta: float) -> dict[str, Any]:
    """The parameters whose ``llama3_factors`` these are: first the ones in use, then solved for.

    Only original/low and original/high can be told from the factors; low is taken as 1.
    """
    factor = float(str(factors.max()))
    for original in (8192, *(2**n for n in range(6, 20))):
        for high in (4.0, 2.0, 8.0):
            found = {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": high,
                     "original_max_position_embeddings": original}  # fmt: skip
            made = llama3_factors({**found, "rope_theta": theta}, 2 * len(factors), theta)
            if np.allclose(made, factors, rtol=1e-5):
                return found
    raise Unsupported("the model's RoPE factors follow no formula that transformers knows")


def _need(rope: dict[str, Any], name: str) -> Any:
    value = rope.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | list) or value == 0:
        raise InvalidSource(f'config.json: the RoPE scaling "{rope.get("rope_type")}" lacks "{name}"')
    return value
