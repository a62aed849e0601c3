"""What happens to a tensor between the Hugging Face form and GGUF. Every step can be walked in both directions.

``outputs`` reads lazily: an output yields its values in pieces that follow each other in the file, so that no more
than one matrix (or 32 MiB of a big one) is in memory. ``restore`` takes whole arrays back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from converters.architectures.config import Config
from converters.errors import InvalidSource

BLOCK = 32 * 2**20  # bytes of float32 that a piece may have, if its rows can be read apart
Array = NDArray[np.float32]


class Source(Protocol):
    """A stored tensor: rows are read when they are needed, as float32."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def read(self, start: int = 0, stop: int | None = None) -> Array: ...


@dataclass(frozen=True, slots=True)
class Output:
    """``shape`` in the order of numpy, the fastest dimension last."""

    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[Array]]


class Step(Protocol):
    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]: ...
    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]: ...


def whole(source: Source) -> Array:
    return source.read()


def once(shape: tuple[int, ...], make: Callable[[], Array]) -> Output:
    """An output of one piece, made when it is asked for."""

    def pieces() -> Iterator[Array]:
        yield make()

    return Output(shape, pieces)


def row_blocks(source: Source) -> Iterator[Array]:
    if not source.shape:
        yield source.read()
        return
    rows = max(1, BLOCK // max(4 * math.prod(source.shape[1:]), 1))
    for start in range(0, source.shape[0], rows):
        yield source.read(start, min(start + rows, source.shape[0]))


@dataclass(frozen=True, slots=True)
class Keep:
    """As it is."""

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        return [Output(source.shape, lambda: row_blocks(source))]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        return list(arrays)


@dataclass(frozen=True, slots=True)
class PlusOne:
    """Gemma stores an RMSNorm's weight as w and applies 1 + w; GGUF holds what is applied."""

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        return [once(source.shape, lambda: source.read() + np.float32(1))]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        return [array - np.float32(1) for array in arrays]


@dataclass(frozen=True, slots=True)
class Transpose:
    """GPT-2's Conv1D holds (in, out)."""

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        if len(source.shape) < 2:
            return Keep().outputs(sources, config)
        return [once(source.shape[::-1], lambda: np.ascontiguousarray(source.read().T))]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        return [np.ascontiguousarray(array.T) for array in arrays]


@dataclass(frozen=True, slots=True)
class Rotate:
    """Rows of each head from halves (x1…, y1…) to pairs (x1, y1, …), where llama.cpp rotates neighbours.

    ``heads`` names the number of heads; biases are rows too.
    """

    heads: Callable[[Config], int]

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        heads = self.heads(config)
        check_divides(source.shape[0], 2 * heads)
        return [once(source.shape, lambda: to_pairs(source.read(), heads))]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        return [to_halves(array, self.heads(config)) for array in arrays]


def to_pairs(array: Array, heads: int) -> Array:
    shape = (heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return np.ascontiguousarray(array.reshape(shape).swapaxes(1, 2)).reshape(array.shape)


def to_halves(array: Array, heads: int) -> Array:
    shape = (heads, array.shape[0] // heads // 2, 2, *array.shape[1:])
    return np.ascontiguousarray(array.reshape(shape).swapaxes(1, 2)).reshape(array.shape)


def check_divides(size: int, by: int) -> None:
    if by < 1 or size % by:
        raise InvalidSource(f"{size} rows cannot be {by} equal parts: config.json and the weights do not fit")


@dataclass(frozen=True, slots=True)
class Stack:
    """One tensor per expert (or per head) → one with a new first dimension."""

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        shape = sources[0].shape
        if any(source.shape != shape for source in sources):
            raise InvalidSource("the experts of a layer have different shapes")
        return [Output((len(sources), *shape), lambda: map(whole, sources))]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        (array,) = arrays
        return list(array)


@dataclass(frozen=True, slots=True)
class Halves:
    """Gate and up projections in one tensor (…, 2·n, in) → two."""

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        shape, half = source.shape, source.shape[-2] // 2
        check_divides(shape[-2], 2)

        def part(at: slice) -> Output:
            def pieces() -> Iterator[Array]:
                if len(shape) == 2:
                    yield source.read(at.start, at.stop)
                    return
                for expert in range(shape[0]):
                    yield np.ascontiguousarray(source.read(expert, expert + 1)[..., at, :])

            return Output((*shape[:-2], half, shape[-1]), pieces)

        return [part(slice(0, half)), part(slice(half, 2 * half))]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        return [np.concatenate(arrays, axis=-2)]


@dataclass(frozen=True, slots=True)
class Regroup:
    """A fused q, k, v that is interleaved by groups → all of q, all of k, all of v.

    ``groups(config)``: (number of groups, query heads in each). Falcon: one group per KV head; GPT-NeoX: per head.
    """

    groups: Callable[[Config], tuple[int, int]]

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        groups, queries = self.groups(config)
        check_divides(source.shape[0], groups * (queries + 2))
        return [once(source.shape, lambda: self._apart(source.read(), groups, queries))]

    @staticmethod
    def _apart(array: Array, groups: int, queries: int) -> Array:
        split = array.reshape(groups, queries + 2, -1, *array.shape[1:])
        parts = (split[:, :queries], split[:, queries : queries + 1], split[:, queries + 1 :])
        return np.concatenate([part.reshape(-1, *array.shape[1:]) for part in parts])

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        (array,) = arrays
        groups, queries = self.groups(config)
        size = array.shape[0] // (groups * (queries + 2))
        cuts = (groups * queries * size, groups * (queries + 1) * size)
        parts = [part.reshape(groups, -1, size, *array.shape[1:]) for part in np.split(array, cuts)]
        return [np.concatenate(parts, axis=1).reshape(array.shape)]


@dataclass(frozen=True, slots=True)
class LatentKV:
    """DeepSeek's kv_b_proj (heads·(nope + v), rank) → k_b (heads, rank, nope) and v_b (heads, v, rank)."""

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        heads, nope, value = config.heads, config.whole("qk_nope_head_dim"), config.whole("v_head_dim")
        rank = source.shape[1]
        if source.shape[0] != heads * (nope + value):
            raise InvalidSource("kv_b_proj has another shape than config.json says")

        def split() -> Array:
            return source.read().reshape(heads, nope + value, rank)

        return [
            once((heads, rank, nope), lambda: np.ascontiguousarray(split()[:, :nope].swapaxes(1, 2))),
            once((heads, value, rank), lambda: np.ascontiguousarray(split()[:, nope:])),
        ]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        keys, values = arrays
        joined = np.concatenate([keys.swapaxes(1, 2), values], axis=1)
        return [joined.reshape(-1, joined.shape[-1])]


@dataclass(frozen=True, slots=True)
class SkipRows:
    """RoBERTa's position table begins with rows that are never looked up (padding); GGUF leaves them out."""

    rows: Callable[[Config], int]

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        skipped = self.rows(config)
        shape = (source.shape[0] - skipped, *source.shape[1:])
        return [once(shape, lambda: source.read(skipped, source.shape[0]))]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        (array,) = arrays
        return [np.concatenate([np.zeros((self.rows(config), *array.shape[1:]), array.dtype), array])]


@dataclass(frozen=True, slots=True)
class TopRows:
    """The first row of a small table is all that llama.cpp reads: (1, n) ↔ (n,)."""

    def outputs(self, sources: Sequence[Source], config: Config) -> list[Output]:
        (source,) = sources
        return [once((math.prod(source.shape),), lambda: source.read().reshape(-1))]

    def restore(self, arrays: Sequence[Array], config: Config) -> list[Array]:
        return [array.reshape(1, -1) for array in arrays]


def heads(config: Config) -> int:
    return config.heads


def kv_heads(config: Config) -> int:
    return config.kv_heads


KEEP, PLUS_ONE, TRANSPOSE, STACK, HALVES = Keep(), PlusOne(), Transpose(), Stack(), Halves()
ROTATE_Q, ROTATE_K = Rotate(heads), Rotate(kv_heads)
