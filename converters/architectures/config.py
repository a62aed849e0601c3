"""``config.json`` as the table reads it: nested text parts flattened, old and new spellings of RoPE made one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from converters.errors import InvalidSource

TEXT_PARTS = ("text_config", "llm_config", "language_config")


class Config(Mapping[str, Any]):
    """Read-only. A value of null counts as absent."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        inner: Mapping[str, Any] = next((raw[part] for part in TEXT_PARTS if isinstance(raw.get(part), dict)), {})
        # The outer object may carry a default for a missing inner value (tie_word_embeddings), not the other way round.
        self._values = {**raw, **{name: value for name, value in inner.items() if value is not None}}

    def __getitem__(self, name: str) -> Any:
        value = self._values.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in self._values.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def whole(self, *names: str, default: int | None = None) -> int:
        """A positive integer under one of several names. InvalidSource when it is absent or something else."""
        value = next((self[name] for name in names if name in self), default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise InvalidSource(f'config.json: "{names[0]}" must be a positive integer, not {str(value)[:40]}')
        return value

    @property
    def layers(self) -> int:
        return self.whole("num_hidden_layers", "n_layer", "n_layers")

    @property
    def width(self) -> int:
        return self.whole("hidden_size", "n_embd", "d_model")

    @property
    def heads(self) -> int:
        return self.whole("num_attention_heads", "n_head")

    @property
    def kv_heads(self) -> int:
        return self.whole("num_key_value_heads", "num_kv_heads", "n_head_kv", default=self.heads)

    @property
    def head_dim(self) -> int:
        return self.whole("head_dim", default=self.width // self.heads)

    @property
    def experts(self) -> int:
        names = ("num_local_experts", "num_experts", "n_routed_experts")
        return next((self.whole(name) for name in names if name in self), 0)

    @property
    def rope(self) -> dict[str, Any]:
        """``rope_type``, ``rope_theta`` and what else belongs to it, of the full-attention layers."""
        found = dict(self.get("rope_parameters") or self.get("rope_scaling") or {})
        if isinstance(found.get("full_attention"), dict):  # one set for each kind of attention
            found = dict(found["full_attention"])
        found["rope_type"] = found.get("rope_type") or found.pop("type", None) or "default"
        for name in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
            if name not in found and name in self:
                found[name] = self[name]
        if "rope_theta" not in found and "rotary_emb_base" in self:
            found["rope_theta"] = self["rotary_emb_base"]
        return found

    @property
    def sliding_rope_theta(self) -> float | None:
        """The base of sliding-window layers where it is another one (Gemma 3)."""
        both = self.get("rope_parameters") or {}
        theta = (both.get("sliding_attention") or {}).get("rope_theta") or self.get("rope_local_base_freq")
        return None if theta is None else float(theta)
