"""llama.cpp's own sampler chain over candidates that we prepared: cut, temper, draw.

Order and meaning of the stages are llama.cpp's: top-n-sigma → top-k → typical → top-p → min-p → XTC →
temperature → draw; mirostat replaces all but the temperature. Penalties, biases and grammars come before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from server.types import Sampling
from server.worker.backends.llamacpp.library import lib

CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
MIROSTAT_M = 100  # llama.cpp's: tokens from which mirostat 1 estimates the distribution's slope
UNSEEDED = 0xFFFFFFFF  # the one seed that llama.cpp replaces by a random one


def reduce_seed(seed: int) -> int:
    """Any 64-bit seed as one that llama.cpp takes literally."""
    return (seed & 0xFFFFFFFF) % UNSEEDED


def _stages(sampling: Sampling, seed: int, n_vocab: int) -> Iterator[object]:
    if sampling.mirostat:
        yield lib.llama_sampler_init_temp(sampling.temperature)
        if sampling.mirostat == 1:
            tau, eta = sampling.mirostat_tau, sampling.mirostat_eta
            yield lib.llama_sampler_init_mirostat(n_vocab, seed, tau, eta, MIROSTAT_M)
        else:
            yield lib.llama_sampler_init_mirostat_v2(seed, sampling.mirostat_tau, sampling.mirostat_eta)
        return
    if sampling.top_n_sigma > 0:
        yield lib.llama_sampler_init_top_n_sigma(sampling.top_n_sigma)
    if sampling.top_k > 0:
        yield lib.llama_sampler_init_top_k(sampling.top_k)
    if sampling.typical_p < 1:
        yield lib.llama_sampler_init_typical(sampling.typical_p, 0)
    if sampling.top_p < 1:
        yield lib.llama_sampler_init_top_p(sampling.top_p, 0)
    if sampling.min_p > 0:
        yield lib.llama_sampler_init_min_p(sampling.min_p, 0)
    if sampling.xtc_probability > 0:
        yield lib.llama_sampler_init_xtc(sampling.xtc_probability, sampling.xtc_threshold, 0, seed)
    if sampling.dynatemp_range > 0:
        dynamic = sampling.dynatemp_range, sampling.dynatemp_exponent
        yield lib.llama_sampler_init_temp_ext(sampling.temperature, *dynamic)
    elif sampling.temperature != 1:
        yield lib.llama_sampler_init_temp(sampling.temperature)
    yield lib.llama_sampler_init_dist(seed)


class Chain:
    """One sequence's sampler with its own random numbers. ``free`` it when the sequence ends."""

    def __init__(self, sampling: Sampling, seed: int, n_vocab: int) -> None:
        params = lib.llama_sampler_chain_default_params()
        params.no_perf = True
        self._chain = lib.llama_sampler_chain_init(params)
        for stage in _stages(sampling, seed, n_vocab):
            lib.llama_sampler_chain_add(self._chain, stage)  # the chain owns it from here on
        self._array = lib.llama_token_data_array()
        self._reference = ctypes.byref(self._array)
        self._apply = lib.llama_sampler_apply
        self._reserve(1024)

    def _reserve(self, size: int) -> None:
        self._candidates = np.zeros(size, CANDIDATE)
        self._ids, self._logits = self._candidates["id"], self._candidates["logit"]
        self._data = ctypes.cast(self._candidates.ctypes.data, ctypes.POINTER(lib.llama_token_data))

    def apply(self, ids: NDArray[np.int64], logits: NDArray[np.float32]) -> int:
        """The token drawn from these candidates (at least one, all finite)."""
        size = ids.size
        if size > self._candidates.size:
            self._reserve(size)
        self._ids[:size] = ids
        self._logits[:size] = logits
        array = self._array
        array.data = self._data  # a sampler may have pointed it elsewhere
        array.size, array.selected, array.sorted = size, -1, False
        self._apply(self._chain, self._reference)
        return int(array.data[array.selected].id)

    def free(self) -> None:
        if self._chain is not None:
            lib.llama_sampler_free(self._chain)
            self._chain = None
