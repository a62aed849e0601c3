"""The row types of the architecture table, and walking a row in either direction.

One ``Architecture`` says everything about a family: how its tensors are called on both sides and what happens to
them, which settings of ``config.json`` are which keys of GGUF, and what cannot be expressed. Rows are data; the only
code in them are small named functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from converters.architectures.config import Config
from converters.architectures.rope import Rope
from converters.architectures.steps import KEEP, Step
from converters.errors import InvalidSource, Unsupported
from converters.gguf.metadata import Metadata

NO_WEIGHTS = r"rotary_emb\.inv_freq$|position_ids$"  # tables that older versions of transformers saved
HOLES = {"n": r"(?P<n>\d+)", "e": r"(?P<e>\d+)", "*": r"(?P<s>weight|bias)"}


def pattern(text: str) -> re.Pattern[str]:
    """``{n}`` layer, ``{e}`` expert, a final ``*`` weight or bias."""
    pieces = re.split(r"(\{n\}|\{e\}|\*)", text)
    return re.compile("".join(HOLES.get(piece.strip("{}"), "") if i % 2 else re.escape(piece)
                              for i, piece in enumerate(pieces)))  # fmt: skip


def filled(text: str, layer: str, suffix: str, expert: int = 0) -> str:
    return text.replace("{n}", layer).replace("{e}", str(expert)).replace("*", suffix)


@dataclass(frozen=True)
class Tensor:
    """``hf`` ↔ ``gguf``. With ``{e}`` in it ``hf`` stands for all experts; several ``gguf`` come out of one ``hf``."""

    hf: str
    gguf: str | tuple[str, ...]
    step: Step = KEEP

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (self.gguf,) if isinstance(self.gguf, str) else self.gguf

    @cached_property
    def hf_pattern(self) -> re.Pattern[str]:
        return pattern(self.hf)

    @cached_property
    def gguf_patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(map(pattern, self.names))


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of ``config.json`` under ``hf`` (or, in older files, ``aliases``) ↔ keys of GGUF, without its prefix.

    Absent there: the value of another setting (``like``), ``default``, or with ``optional`` no key at all.
    """

    hf: str
    gguf: str
    kind: str = "u32"
    also: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    like: str = ""
    default: Any = None
    optional: bool = False

    def value(self, config: Config) -> Any:
        for name in (self.hf, *self.aliases, self.like):
            if name and name in config:
                return config[name]
        if self.default is None and not self.optional:
            raise InvalidSource(f'config.json lacks "{self.hf}"')
        return self.default


@dataclass(frozen=True, slots=True)
class Requires:
    """What llama.cpp computes for this architecture and no setting can change: other values are refused."""

    hf: str
    values: tuple[Any, ...]
    aliases: tuple[str, ...] = ()
    written: bool = True

    def check(self, config: Config) -> None:
        for name in (self.hf, *self.aliases):
            if name in config and config[name] not in self.values:
                raise Unsupported(
                    f'"{name}": {str(config[name])[:60]} cannot be expressed for this architecture in GGUF '
                    f"(only {', '.join(map(str, self.values))}); serve the checkpoint with the torch backend"
                )


ToKeys = Callable[[Config, Metadata], None]
ToConfig = Callable[[Metadata, dict[str, Any]], None]


@dataclass(frozen=True)
class Architecture:
    """``gguf``: llama.cpp's name. ``classes``: those of transformers, the first is written on the way back.

    ``when`` tells rows of the same GGUF architecture apart. ``drop``: tensors that are not weights of the text
    model (a regular expression). ``renames`` bring older or nested names to the row's own. ``tied``: the output matrix
    is the embedding where config.json is silent. ``windowless``: llama.cpp attends to all of a text, whatever
    ``sliding_window`` says. ``extra_layers``: those behind the last (multi-token prediction) are left out.
    ``tolerance``: how far float32 logits may be from transformers'.
    """

    gguf: str
    classes: tuple[str, ...]
    model_type: str
    tensors: tuple[Tensor, ...]
    settings: tuple[Setting, ...]
    rope: Rope | None = None
    requires: tuple[Requires, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict)
    drop: str = r"$^"
    renames: tuple[tuple[str, str], ...] = ()
    when: Callable[[Metadata], bool] = field(default=lambda metadata: True)
    keys: ToKeys | None = None
    config: ToConfig | None = None
    generates: bool = True
    tied: bool = False
    windowless: bool = False
    extra_layers: bool = False
    tolerance: float = 2e-5

    def check(self, config: Config) -> None:
        for requirement in self.requires:
            requirement.check(config)

    def add_keys(self, config: Config, metadata: Metadata) -> None:
        """All hyper-parameters of ``config`` as keys."""
        for setting in self.settings:
            value = setting.value(config)
            if value is not None:
                for key in (setting.gguf, *setting.also):
                    metadata.add(f"{self.gguf}.{key}", setting.kind, value, setting.hf)
        for key, value in self.constants.items():
            metadata.add_plain(f"{self.gguf}.{key}", value)
        if self.rope:
            self.rope.add_keys(config, metadata, self.gguf)
        if self.keys:
            self.keys(config, metadata)

    def to_config(self, metadata: Metadata) -> dict[str, Any]:
        """The way back: what transformers needs to build the model."""
        found: dict[str, Any] = {"architectures": [self.classes[0]], "model_type": self.model_type}
        found |= {requirement.hf: requirement.values[0] for requirement in self.requires if requirement.written}
        found |= self.written
        for setting in self.settings:
            value = metadata.get(f"{self.gguf}.{setting.gguf}")
            if value is not None:
                found[setting.hf] = value
            elif setting.default is not None:
                found[setting.hf] = setting.default
            elif not setting.optional and not setting.like:
                raise InvalidSource(f"the model lacks the key {self.gguf}.{setting.gguf}")
        if self.rope:
            found |= self.rope.to_config(metadata, self.gguf)
        if self.config:
            self.config(metadata, found)
        return found

    def own_name(self, name: str) -> str | None:
        """A tensor of a checkpoint under the name that this row uses, None for one that is left out."""
        for old, new in self.renames:
            name = re.sub(old, new, name)
        return None if re.search(self.drop, name) or re.search(NO_WEIGHTS, name) else name

    def find(self, name: str) -> tuple[Tensor, re.Match[str]] | None:
        return _first((row, row.hf_pattern.fullmatch(name)) for row in self.tensors)

    def find_gguf(self, name: str) -> tuple[Tensor, re.Match[str]] | None:
        return _first((row, p.fullmatch(name)) for row in self.tensors for p in row.gguf_patterns)


def _first(found: Iterable[tuple[Tensor, re.Match[str] | None]]) -> tuple[Tensor, re.Match[str]] | None:
    return next(((row, match) for row, match in found if match), None)


def groups(match: re.Match[str]) -> tuple[str, str, int]:
    """(layer, suffix, expert) of a matched name; "" and 0 where it has none."""
    found = match.groupdict()
    return found.get("n") or "", found.get("s") or "", int(found.get("e") or 0)


def layers(rows: Iterable[tuple[str, str | tuple[str, ...]] | tuple[str, str | tuple[str, ...], Step]],
           hf: str = "model.layers.{n}.", gguf: str = "blk.{n}.") -> Iterator[Tensor]:  # fmt: skip
    """Rows of one layer without their common beginnings; weight or bias unless the names say which."""
    for name, to, *step in rows:
        ends = "" if name.endswith((".weight", "bias")) else ".*"
        targets = tuple(gguf + target + ends for target in ((to,) if isinstance(to, str) else to))
        yield Tensor(hf + name + ends, targets if len(targets) > 1 else targets[0], *step)
