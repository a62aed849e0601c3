"""How much memory a model needs, by arithmetic from the facts of its GGUF header.

Pure: integers in, integers out, whatever a header claims. The numbers are upper bounds for what will be
resident: the operating system commits KV pages only when they are first written, on a CPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import StoreError
from server.types import LoadOptions, MemoryUse

if TYPE_CHECKING:
    from modelfiles.gguf import Header

MAX_LAYERS = 1024
MAX_COUNT = 2**40
"""No honest header has a larger number; arithmetic with larger ones would only be slow."""
CELL_PADDING = 256
KV_BYTES: Mapping[str, tuple[int, int]] = {
    "f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q5_1": (32, 24), "q5_0": (32, 22),
    "q4_1": (32, 20), "q4_0": (32, 18), "iq4_nl": (32, 18),
}  # fmt: skip
"""Elements of a block and the bytes it takes."""
BLOCK_TENSOR = re.compile(r"blk\.(\d{1,5})\.")
RUNTIME = 24 * 2**20
"""Python, numpy and libllama in the worker, beyond what all workers share."""


@dataclass(frozen=True, slots=True)
class Layer:
    """``k``/``v``: elements per cell. ``state``: bytes per sequence of recurrent memory, which takes no cells.

    ``weights`` bytes, ``experts`` of them in expert tensors. ``window``: how far a sliding window looks back,
    0 = everything; noted, but such layers keep all cells here, because a prefix cannot be cut otherwise.
    """

    k: int = 0
    v: int = 0
    state: int = 0
    weights: int = 0
    experts: int = 0
    window: int = 0


@dataclass(frozen=True, slots=True)
class ModelShape:
    """``head`` = bytes of the tensors outside the layers; ``extra`` = projectors, adapters and a draft model."""

    layers: tuple[Layer, ...] = ()
    head: int = 0
    extra: int = 0
    vocabulary: int = 0
    embedding: int = 0
    feed_forward: int = 0
    heads: int = 0
    trained_ctx: int = 0
    architecture: str = ""

    @property
    def weights(self) -> int:
        return self.head + self.extra + sum(layer.weights for layer in self.layers)

    @classmethod
    def from_header(cls, header: Header, extra: int = 0) -> ModelShape:
        return cls(
            _layers(header),
            _sizes(header)[2],
            extra,
            vocabulary=_clamp(header.vocabulary_size),
            embedding=_clamp(header.embedding_length),
            feed_forward=max(_clamp(header.setting("feed_forward_length")), _experts_width(header)),
            heads=_clamp(header.head_count),
            trained_ctx=_clamp(header.context_length),
            architecture=header.architecture,
        )


def shape_of(weights: Path, others: tuple[Path, ...] = ()) -> ModelShape:
    """Reads the header of ``weights``; ``others`` are counted by their size. StoreError if there is none.

    The files of split weights are among ``others`` and counted by their tensors.
    """
    from modelfiles.errors import GGUFError
    from modelfiles.gguf import join, read_header

    try:
        header, beside = read_header(weights), list(others)
        if header.split_count > 1:
            parts = [(path, read_header(path)) for path in others]
            parts = [(path, part) for path, part in parts if part.split_count == header.split_count]
            header = join([header, *(part for _, part in parts)])
            beside = [path for path in others if path not in dict(parts)]
        return ModelShape.from_header(header, sum(path.stat().st_size for path in beside))
    except GGUFError as error:
        raise StoreError(f"error loading model: {error}") from error
    except OSError as error:
        raise StoreError(f"error loading model: its file cannot be read: {error.strerror}") from error


def _clamp(value: int | None, limit: int = MAX_COUNT) -> int:
    return min(max(value or 0, 0), limit)


def _sizes(header: Header) -> tuple[dict[int, int], dict[int, int], int]:
    """Bytes per layer, those of them in experts, and bytes outside the layers."""
    layers: dict[int, int] = {}
    experts: dict[int, int] = {}
    head = 0
    for tensor in header.tensors:
        found = BLOCK_TENSOR.match(tensor.name)
        if found is None or int(found[1]) >= MAX_LAYERS:
            head += tensor.nbytes
            continue
        number = int(found[1])
        layers[number] = layers.get(number, 0) + tensor.nbytes
        if "_exps" in tensor.name:
            experts[number] = experts.get(number, 0) + tensor.nbytes
    return layers, experts, head


def _layers(header: Header) -> tuple[Layer, ...]:
    sizes, experts, _ = _sizes(header)
    count = _clamp(max(header.block_count, max(sizes, default=-1) + 1), MAX_LAYERS)
    given = header.per_layer("attention.head_count_kv")
    heads = [_clamp(given[n] if n < len(given) else header.head_count_kv) for n in range(count)]
    k, v, state = _clamp(header.key_length), _clamp(header.value_length), _state(header)
    window = _clamp(header.setting("attention.sliding_window"))
    # Mamba and RWKV keep no cells at all, whatever their head counts say.
    recurrent = header.architecture.startswith(("mamba", "rwkv", "arwkv"))
    made = []
    for n in range(count):
        weights, in_experts = sizes.get(n, 0), experts.get(n, 0)
        if state and (recurrent or not heads[n]):
            made.append(Layer(0, 0, state, weights, in_experts))
        else:
            made.append(Layer(heads[n] * k, heads[n] * v, 0, weights, in_experts, window))
    return tuple(made)


def _experts_width(header: Header) -> int:
    """Of all experts that one token passes through."""
    return _clamp(header.setting("expert_used_count")) * _clamp(header.setting("expert_feed_forward_length"))


def _all_recurrent(header: Header) -> bool:
    """Mamba and RWKV keep no cells at all, whatever their head counts say."""
    return header.architecture.startswith(("mamba", "rwkv", "arwkv"))


def _state(header: Header) -> int:
    """Bytes of one layer's recurrent memory for one sequence (f32)."""
    inner, width = _clamp(header.setting("ssm.inner_size")), _clamp(header.setting("ssm.state_size"))
    if inner:
        groups, kernel = _clamp(header.setting("ssm.group_count")), _clamp(header.setting("ssm.conv_kernel"))
        return 4 * (max(kernel - 1, 0) * (inner + 2 * groups * width) + inner * width)
    if size := _clamp(header.setting("wkv.head_size")):
        return 4 * _clamp(header.embedding_length) * (size + 2)
    if cache := _clamp(header.setting("shortconv.l_cache")):
        return 4 * _clamp(header.embedding_length) * max(cache - 1, 0)
    return 0


# -- what one load takes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Demand:
    """Everything about a load that decides its size. ``gpu_layers`` counts from the last layer back; more than
    there are layers means the output as well."""

    num_ctx: int
    parallel: int = 1
    num_batch: int = 512
    kv_type: str = "f16"
    flash_attention: bool = True
    gpu_layers: int = 0
    cpu_moe: int = 0
    devices: int = field(default=1)

    @classmethod
    def of(cls, options: LoadOptions, gpu_layers: int = 0, devices: int = 1) -> Demand:
        return cls(
            num_ctx=options.num_ctx,
            parallel=max(options.num_parallel, 1),
            num_batch=options.num_batch,
            kv_type=options.kv_cache_type,
            flash_attention=options.flash_attention is not False,
            gpu_layers=gpu_layers,
            cpu_moe=options.cpu_moe,
            devices=devices,
        )


def estimate(shape: ModelShape, demand: Demand) -> MemoryUse:
    """Bytes of weights, KV memory and compute buffers, and how many of all of them are on devices."""
    kv = [layer_kv(layer, demand) for layer in shape.layers]
    compute = compute_buffer(shape, demand)
    gpu = 0
    if demand.gpu_layers > 0:
        first = max(len(shape.layers) - demand.gpu_layers, 0)
        for number in range(first, len(shape.layers)):
            layer = shape.layers[number]
            gpu += layer.weights + kv[number] - (layer.experts if number < demand.cpu_moe else 0)
        if demand.gpu_layers > len(shape.layers):
            gpu += shape.head
        gpu += compute * max(demand.devices, 1)
        compute += compute * max(demand.devices - 1, 0)
    return MemoryUse(weights=shape.weights, kv=sum(kv), compute=compute + RUNTIME, gpu=gpu)


def layer_kv(layer: Layer, demand: Demand) -> int:
    cells = -(-max(demand.num_ctx, 1) // CELL_PADDING) * CELL_PADDING
    k_type, _, v_type = demand.kv_type.partition("/")
    row = _row(layer.k, k_type) + _row(layer.v, v_type or k_type)
    return demand.parallel * (cells * row + layer.state)


def _row(elements: int, kind: str) -> int:
    block, size = KV_BYTES[kind]
    return -(-elements // block) * size


def compute_buffer(shape: ModelShape, demand: Demand) -> int:
    """The widest step of the graph for one full batch (measured on llama-like models), the mask or the scores of
    attention, and logits for every sequence."""
    rows = max(demand.num_batch, demand.parallel)
    widest = 9 * shape.embedding + 2 * shape.feed_forward
    attention = demand.num_ctx // 2 if demand.flash_attention else shape.heads * demand.num_ctx
    return 4 * (rows * (widest + attention) + demand.parallel * shape.vocabulary)
