"""The operator's rules for models in memory: plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Times are seconds, 0 = never (``keep_alive``: 0 = unload at once, negative = for ever); counts 0 = choose.

    ``max_loaded`` 0 = three per GPU. ``max_queue`` bounds requests that wait for a load, and those that wait
    inside one model (0 = no bound). ``max_ctx`` caps every window. ``gpu_overhead`` bytes of each GPU are left alone;
    ``spread`` uses all GPUs at once. ``spare`` keeps one worker process ready for the next load.
    """

    keep_alive: float = 300.0
    max_loaded: int = 0
    max_queue: int = 512
    queue_timeout: float = 600.0
    load_timeout: float = 300.0
    hang_timeout: float = 60.0
    context_length: int = 0
    max_ctx: int = 0
    spread: bool = False
    gpu_overhead: int = 0
    spare: bool = True
