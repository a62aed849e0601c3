"""Memory arithmetic: against what llama.cpp reported for shapes like these, and for headers nobody means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.hardware.memory import (
    KV_BYTES,
    RUNTIME,
    Demand,
    Layer,
    ModelShape,
    compute_buffer,
    estimate,
    shape_of,
)
from server.options import KV_TYPES
from server.types import LoadOptions

MODELS = Path(__file__).resolve().parents[2] / "golden" / "models"
MIB = 2**20


def llama_shape(embedding: int, heads: int, kv_heads: int, feed_forward: int, vocabulary: int) -> ModelShape:
    width = embedding // heads * kv_heads
    return ModelShape((Layer(width, width, weights=1000, experts=400),) * 2, head=500, vocabulary=vocabulary,
                      embedding=embedding, feed_forward=feed_forward, heads=heads)  # fmt: skip


NANO = llama_shape(64, 4, 4, 128, 496)
HALF = llama_shape(896, 14, 2, 4864, 151936)
ONE = llama_shape(2048, 32, 8, 8192, 128256)
SMALL = llama_shape(256, 4, 2, 1024, 32000)


# What libllama's log said of its KV, and of its compute and output buffers, in MiB.
@pytest.mark.parametrize(
    ("shape", "demand", "kv", "compute"),
    [
        (NANO, Demand(4096, 1), 2.0, 5.01),
        (NANO, Demand(4096, 16), 32.0, 5.04),
        (NANO, Demand(4096, 4, 2048), 8.0, 20.06),
        (NANO, Demand(32768, 1), 16.0, 33.01),
        (HALF, Demand(4096, 1), 4.0, 40.09),
        (HALF, Demand(4096, 16), 64.0, 48.78),
        (HALF, Demand(4096, 4, 2048), 16.0, 160.37),
        (HALF, Demand(4096, 1, kv_type="q8_0"), 2.125, 38.37),
        (HALF, Demand(4096, 2, flash_attention=False), 8.0, 130.42),
        (HALF, Demand(32768, 1), 32.0, 68.09),
        (ONE, Demand(4096, 1), 16.0, 68.5),
        (ONE, Demand(4096, 16), 256.0, 75.84),
        (ONE, Demand(4096, 2, flash_attention=False), 32.0, 286.99),
        (SMALL, Demand(4096, 8), 32.0, 12.99),
    ],
)
def test_the_estimate_is_what_llama_cpp_takes(shape: ModelShape, demand: Demand, kv: float, compute: float) -> None:
    use = estimate(shape, demand)
    assert use.kv == kv * MIB
    assert compute * MIB * 0.9 < use.compute - RUNTIME < compute * MIB * 1.35
    assert use.gpu == 0


@pytest.mark.parametrize("name", ["nano", "nano-tools", "nano-embed", "nano-bare"])
def test_shapes_of_real_files(name: str) -> None:
    path = MODELS / f"{name}.gguf"
    shape = shape_of(path, (path,))
    assert len(shape.layers) == 2
    assert shape.trained_ctx == 1024
    assert shape.extra == path.stat().st_size
    assert 0.5 < (shape.weights - shape.extra) / path.stat().st_size <= 1


def test_layers_on_devices() -> None:
    demand = Demand(256, gpu_layers=1)
    kv = estimate(ONE, demand).kv
    assert estimate(ONE, demand).gpu == 1000 + kv // 2 + compute_buffer(ONE, demand)
    everything = Demand(256, gpu_layers=3, devices=2)
    assert estimate(ONE, everything).gpu == 2500 + kv + 2 * compute_buffer(ONE, everything)
    experts = Demand(256, gpu_layers=3, cpu_moe=1)
    assert estimate(ONE, experts).gpu == 2500 - 400 + kv + compute_buffer(ONE, experts)


def test_recurrent_layers_take_no_cells() -> None:
    shape = ModelShape((Layer(state=4096), Layer(k=64, v=64)))
    assert estimate(shape, Demand(256, 2)).kv == 2 * (4096 + 256 * 256)


def test_every_kv_type_an_option_allows_is_known() -> None:
    assert set(KV_TYPES) == set(KV_BYTES)
    pair = estimate(ONE, Demand(256, kv_type="q8_0/f16")).kv
    assert estimate(ONE, Demand(256, kv_type="q8_0")).kv < pair < estimate(ONE, Demand(256, kv_type="f16")).kv


def test_a_demand_of_options() -> None:
    demand = Demand.of(LoadOptions(num_ctx=8, num_parallel=0, flash_attention=False, kv_cache_type="q8_0"), 5, 2)
    assert (demand.parallel, demand.flash_attention, demand.gpu_layers, demand.devices) == (1, False, 5, 2)


class FakeHeader:
    """A header with any value for any key."""

    architecture = "llama"
    tensors = ()

    def __init__(self, value: int, per_layer: tuple[int, ...]) -> None:
        self.value, self._per_layer = value, per_layer

    def __getattr__(self, name: str) -> int:
        return self.value

    def setting(self, name: str) -> int:
        return self.value

    def per_layer(self, name: str) -> tuple[int, ...]:
        return self._per_layer


@given(st.integers(-(2**63), 2**64), st.lists(st.integers(-(2**31), 2**32), max_size=3), st.integers(0, 2**31))
def test_absurd_headers_give_numbers(value: int, per_layer: list[int], ctx: int) -> None:
    shape = ModelShape.from_header(FakeHeader(value, tuple(per_layer)))  # type: ignore[arg-type]
    use = estimate(shape, Demand(ctx, 4, gpu_layers=10))
    assert use.gpu >= 0
    assert 0 <= use.kv <= use.total
