"""Microseconds that one token costs in the sampler, by options and vocabulary size. Takes no arguments."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from server.types import Sampling
from server.worker.engine.sampling import Sampler

DEFAULT = Sampling(seed=1)
CASES = {
    "default (top-k 40, top-p 0.9)": DEFAULT,
    "with repeat penalty 1.1": replace(DEFAULT, repeat_penalty=1.1),
    "with DRY": replace(DEFAULT, dry_multiplier=0.8),
    "greedy": replace(DEFAULT, temperature=0.0),
    "top-k 1000": replace(DEFAULT, top_k=1000),
    "min-p 0.05 alone": replace(DEFAULT, top_k=0, top_p=1.0, min_p=0.05),
    "top-p 0.9 alone": replace(DEFAULT, top_k=0),
    "temperature alone": replace(DEFAULT, top_k=0, top_p=1.0),
    "top-n-sigma 1": replace(DEFAULT, top_n_sigma=1.0),
    "mirostat 2": replace(DEFAULT, mirostat=2),
}
VOCABULARIES = (4096, 32000, 151936)


def cost(sampling: Sampling, n_vocab: int, steps: int = 300) -> float:
    """The median over ``steps`` tokens of prepare + draw + accept."""
    random = np.random.default_rng(0)
    rows = (random.standard_normal((8, n_vocab)) * 3).astype(np.float32)
    sampler = Sampler(sampling, n_vocab, frozenset({2}), random.integers(0, n_vocab, 500).tolist())
    times = []
    for step in range(steps):
        row = rows[step % 8].copy()
        start = time.perf_counter()
        sampler.prepare(row)
        sampler.accept(sampler.draw(row))
        times.append(time.perf_counter() - start)
    sampler.close()
    return sorted(times)[steps // 2] * 1e6


def main() -> None:
    print(f"{'µs per token':32}" + "".join(f"{n:>9}" for n in VOCABULARIES))
    for name, sampling in CASES.items():
        print(f"{name:32}" + "".join(f"{cost(sampling, n):9.1f}" for n in VOCABULARIES))


if __name__ == "__main__":
    main()
