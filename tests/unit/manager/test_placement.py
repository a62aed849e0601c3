"""Where models go, on machines made of numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.errors import DoesNotFit
from server.hardware.devices import Gpu, Machine
from server.hardware.memory import Layer, ModelShape
from server.manager.placement import Evict, Held, Placed, place, window_for
from server.manager.policy import Policy
from server.types import LoadOptions, MemoryUse

GIB = 2**30
DEFAULTS = Policy()
CPU = Machine(8, 8, 24 * GIB, 20 * GIB)
# 8B at four bits: 32 layers of 140 MiB, 128 KiB of KV per token.
EIGHT = ModelShape((Layer(1024, 1024, weights=140 * 2**20),) * 32, head=600 * 2**20, vocabulary=128_256,
                   embedding=4096, feed_forward=14_336, heads=32, trained_ctx=131_072)  # fmt: skip
SMALL = ModelShape((Layer(128, 128, weights=2**20),) * 2, head=2**20, vocabulary=1000, embedding=256,
                   feed_forward=512, heads=4, trained_ctx=2048)  # fmt: skip


def gpus(*free: float, live: bool = True) -> tuple[Gpu, ...]:
    return tuple(Gpu(n, "G", int(f * GIB), int(f * GIB), "cuda", live=live) for n, f in enumerate(free))


def verdict(
    machine: Machine = CPU,
    shape: ModelShape = EIGHT,
    held: tuple[Held, ...] = (),
    policy: Policy = DEFAULTS,
    vision: bool = False,
    **options: object,
) -> Placed | Evict | DoesNotFit:
    return place(machine, held, shape, replace(LoadOptions(), **options), policy, vision=vision)  # type: ignore[arg-type]


def placed(*args: object, **kwargs: object) -> Placed:
    got = verdict(*args, **kwargs)  # type: ignore[arg-type]
    assert isinstance(got, Placed), got
    return got


def test_on_a_cpu_everything_is_chosen() -> None:
    got = placed()
    assert got.options.num_ctx == 4096
    assert got.options.num_thread == 8
    assert (got.devices, got.layers, got.options.num_gpu) == ((), 0, 0)
    assert 1 < got.options.num_parallel <= 16
    assert got.use.kv <= 0.4 * 20 * GIB


def test_sixteen_sequences_of_a_small_model() -> None:
    got = placed(shape=SMALL)
    assert got.options.num_parallel == 16
    assert got.options.num_ctx == 2048
    assert got.options.num_thread == 8


def test_threads() -> None:
    tiny = ModelShape((Layer(16, 16, weights=1000),), trained_ctx=64)
    assert placed(shape=tiny).options.num_thread == 1
    assert placed(shape=tiny, num_thread=3).options.num_thread == 3


@pytest.mark.parametrize(
    ("asked", "window"), [(8192, 8192), (1_000_000, 131_072), (1, 4), (0, 4096), (2**31 - 1, 131_072)]
)
def test_windows(asked: int, window: int) -> None:
    assert window_for(LoadOptions(num_ctx=asked), EIGHT, CPU, Policy(), vision=False) == window


def test_windows_of_the_operator_and_of_vision() -> None:
    assert window_for(LoadOptions(), EIGHT, CPU, Policy(context_length=9000), vision=False) == 9000
    assert window_for(LoadOptions(num_ctx=64), EIGHT, CPU, Policy(), vision=True) == 2048
    assert window_for(LoadOptions(num_ctx=9000), EIGHT, CPU, Policy(max_ctx=5000), vision=False) == 5000


@pytest.mark.parametrize(("total", "window"), [(16, 4096), (24, 32_768), (48, 262_144)])
def test_much_gpu_memory_means_a_larger_window(total: float, window: int) -> None:
    machine = replace(CPU, gpus=gpus(total))
    shape = replace(EIGHT, trained_ctx=10**6)
    assert window_for(LoadOptions(), shape, machine, Policy(), vision=False) == window


def test_an_explicit_window_is_kept_and_sequences_give_way() -> None:
    got = placed(num_ctx=32_768)
    assert got.options.num_ctx == 32_768
    assert got.options.num_parallel == 1


def test_an_explicit_window_that_cannot_fit_says_what_to_type() -> None:
    got = verdict(num_ctx=131_072)
    assert isinstance(got, DoesNotFit)
    assert got.message.startswith("model requires more system memory (")
    assert "than is available (19.8 GiB)" in got.message
    assert "smaller num_ctx than 131072" in got.message
    assert 'kv_cache_type "q8_0"' in got.message


def test_weights_that_cannot_fit_are_not_blamed_on_the_window() -> None:
    got = verdict(replace(CPU, memory_available=3 * GIB))
    assert isinstance(got, DoesNotFit)
    assert "num_ctx" not in got.message
    assert "quantized model" in got.message


def test_a_chosen_window_is_lowered() -> None:
    got = placed(replace(CPU, memory_available=int(5.55 * GIB)))
    assert got.options.num_ctx == 1024
    assert got.options.num_parallel == 1


def test_a_quantized_cache_makes_room() -> None:
    assert isinstance(verdict(num_ctx=100_000, kv_cache_type="f16", num_parallel=1), Placed)
    assert isinstance(verdict(num_ctx=130_000, kv_cache_type="f16", num_parallel=1), DoesNotFit)
    assert isinstance(verdict(num_ctx=130_000, kv_cache_type="q8_0", num_parallel=1), Placed)


def test_the_best_single_gpu() -> None:
    got = placed(replace(CPU, gpus=gpus(12, 24)), num_ctx=4096)
    assert got.devices == (1,)
    assert got.layers == -1
    assert got.tensor_split == (0.0, 1.0)
    assert got.options.main_gpu == 1
    assert got.use.gpu > 0.9 * EIGHT.weights
    assert got.use.gpu <= 0.8 * 24 * GIB


def test_a_single_gpu_is_no_split() -> None:
    assert placed(replace(CPU, gpus=gpus(24)), num_ctx=4096).tensor_split == ()


def test_all_gpus_when_one_is_too_small_or_the_operator_says_so() -> None:
    got = placed(replace(CPU, gpus=gpus(5, 5)), num_ctx=4096)
    assert got.devices == (0, 1)
    assert got.layers == -1
    assert got.tensor_split == (0.5, 0.5)
    assert placed(replace(CPU, gpus=gpus(24, 24)), policy=Policy(spread=True)).devices == (0, 1)


def test_as_many_layers_as_fit() -> None:
    got = placed(replace(CPU, gpus=gpus(3)), num_ctx=4096)
    assert 0 < got.layers < 32
    assert got.options.num_gpu == got.layers
    assert got.use.gpu <= 0.8 * 3 * GIB


def test_a_gpu_too_small_for_a_layer_is_left_alone() -> None:
    got = placed(replace(CPU, gpus=gpus(0.2)), num_ctx=4096)
    assert (got.devices, got.layers) == ((), 0)


def test_the_users_word_on_layers_devices_and_shares() -> None:
    machine = replace(CPU, gpus=gpus(24, 24))
    assert placed(machine, num_gpu=0).devices == ()
    told = placed(machine, num_gpu=10)
    assert (told.layers, told.options.num_gpu) == (10, 10)
    assert placed(machine, main_gpu=1, num_ctx=4096).devices == (1,)
    assert placed(machine, tensor_split=(3.0, 1.0)).tensor_split == (3.0, 1.0)


def test_gpu_overhead_is_left_alone() -> None:
    machine = replace(CPU, gpus=gpus(8))
    assert placed(machine, num_ctx=2048).layers == -1
    assert placed(machine, num_ctx=2048, policy=Policy(gpu_overhead=4 * GIB)).layers != -1


def held(key: str, size: float, *, gpu: float = 0, idle: bool = True, keep_alive: float = 300, **rest: float) -> Held:
    use = MemoryUse(weights=int(size * GIB), gpu=int(gpu * GIB))
    return Held(key, use, (0,) if gpu else (), idle, keep_alive, promised=int((size - gpu) * GIB), **rest)


def test_room_is_made_by_the_idle_one_with_the_shortest_keep_alive() -> None:
    models = (held("busy", 5, idle=False, keep_alive=1), held("long", 6), held("short", 6, keep_alive=10))
    assert verdict(held=models, policy=Policy(max_loaded=9)) == Evict("short")
    assert verdict(held=models[:2], policy=Policy(max_loaded=9), num_ctx=65_536) == Evict("long")


def test_for_ever_goes_last_but_goes() -> None:
    models = (held("ever", 9, keep_alive=float("inf")), held("five", 9, keep_alive=300))
    assert verdict(held=models, policy=Policy(max_loaded=9)) == Evict("five")
    assert verdict(held=(held("ever", 17, keep_alive=float("inf")),)) == Evict("ever")


def test_of_equals_the_one_unused_for_longest_goes() -> None:
    models = (held("late", 9, used=5.0), held("early", 9, used=3.0))
    assert verdict(held=models, policy=Policy(max_loaded=9)) == Evict("early")


def test_a_busy_one_is_named_when_there_is_no_idle_one() -> None:
    assert verdict(held=(held("b", 17, idle=False),)) == Evict("b")


def test_nobody_is_evicted_in_vain() -> None:
    assert isinstance(verdict(held=(held("a", 2),), num_ctx=131_072, num_parallel=4), DoesNotFit)
    machine = replace(CPU, memory_available=4 * GIB, gpus=gpus(24))
    assert isinstance(verdict(machine, held=(held("gpu", 8, gpu=8),), num_gpu=0), DoesNotFit)


def test_models_fit_side_by_side() -> None:
    got = placed(held=(held("a", 8),))
    assert got.use.total <= 12 * GIB


def test_the_number_of_models() -> None:
    models = tuple(held(str(n), 0.01, keep_alive=n) for n in range(3))
    assert verdict(held=models, shape=SMALL) == Evict("0")
    assert isinstance(verdict(replace(CPU, gpus=gpus(8, 8)), held=models, shape=SMALL), Placed)
    assert verdict(held=models[:1], shape=SMALL, policy=Policy(max_loaded=1)) == Evict("0")


def test_gpu_memory_is_freed_by_eviction_and_not_counted_twice() -> None:
    model = held("a", 15, gpu=15)
    live = replace(CPU, memory_available=GIB, gpus=(Gpu(0, "G", 24 * GIB, 9 * GIB, "cuda", live=True),))
    stale = replace(CPU, memory_available=GIB, gpus=gpus(24, live=False))
    for machine in (live, stale):
        assert isinstance(verdict(machine, held=(model,), num_ctx=4096, num_parallel=1), Placed)
        assert verdict(machine, held=(model,), num_ctx=65_536) == Evict("a")


def test_a_window_of_our_choice_is_lowered_before_anybody_is_evicted_for_it() -> None:
    machine = replace(CPU, gpus=(Gpu(0, "G", 48 * GIB, 20 * GIB, "cuda", live=True),))
    got = placed(machine, held=(held("a", 28, gpu=28),))
    assert 4096 <= got.options.num_ctx < 131_072
    assert got.layers == -1


def test_a_full_gpu_is_emptied_rather_than_shared_with_the_cpu() -> None:
    machine = replace(CPU, gpus=(Gpu(0, "G", 16 * GIB, 3 * GIB, "cuda", live=True),))
    assert verdict(machine, held=(held("a", 13, gpu=13),)) == Evict("a")
