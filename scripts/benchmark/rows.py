"""The rows of the performance table: scenario, the peers' best flags for it, and the ratio that we ask of ourselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from benchmark import scenarios
from benchmark.prompts import Prompts
from benchmark.servers import Server

Scenario = Callable[[Server, Prompts], Awaitable[scenarios.Figures]]


@dataclass(frozen=True)
class Row:
    """``flags``: the settings of llama-server to try; the best of them per figure is the peer.

    ``asked``: figure → bound on ours ÷ peer's ("≥ 1.05" or "≤ 0.8"); a figure may name another of the peer's
    after "of". ``small``: runs on the 13M model.
    """

    name: str
    scenario: Scenario | None
    flags: tuple[str, ...]
    asked: dict[str, str]
    small: bool = False
    own: dict[str, str] = field(default_factory=dict)
    """Bounds between two figures of ours: "warm tok/s": "≥ 0.98 of cold tok/s"."""
    bounds: dict[str, str] = field(default_factory=dict)
    """Bounds on a figure itself: "switch s": "≤ 0.5"."""


ONE, EIGHT, SIXTEEN = "-np 1", "-np 8", "-np 16"
FINE = "-np 2 -b 128 -ub 128"


OUTSIDE = {"server µs/token": "≤ 100", "worker µs/token": "≤ 100"}


def _streams(count: int) -> Scenario:
    return partial(scenarios.streams, count=count)


def _together(count: int) -> Scenario:
    return partial(scenarios.together, count=count)


ROWS = (
    Row("one stream", _streams(1), (ONE, EIGHT), {"tok/s": "≥ 0.98"}),
    Row("8 clients", _streams(8), (ONE, EIGHT), {"tok/s": "≥ 1.05"}),
    Row("16 clients", _streams(16), (EIGHT, SIXTEEN), {"tok/s": "≥ 1.1"}),
    Row("16 × 1000-token contexts", scenarios.long_contexts, (SIXTEEN, SIXTEEN + " -kvu"), {"tok/s": "≥ 1.0"}),
    Row("beside a warm cache", scenarios.beside_cache, (), {}, own={"warm tok/s": "≥ 0.98 of cold tok/s"}),
    Row("13M, one stream", _streams(1), (ONE, EIGHT), {"tok/s": "≥ 1.0 of -np 8"}, small=True),
    Row("13M, 16 clients", _streams(16), (EIGHT, SIXTEEN), {"tok/s": "≥ 1.3 of -np 8"}, small=True),
    Row(
        "TTFT, 512 tokens",
        scenarios.ttft,
        (ONE, EIGHT),
        {"cold ms": "≤ 1.03", "repeated ms": "≤ 1.2", "+16 ms": "≤ 1.1"},
    ),
    Row(
        "8 at once, one 512-token prefix",
        _together(8),
        (ONE, EIGHT),
        {
            "new wall s": "≤ 0.8",
            "new ttft p50 s": "≤ 0.7",
            "seen wall s": "≤ 0.85",
            "seen ttft p50 s": "≤ 0.5",
        },
    ),
    Row("16 at once, the same", _together(16), (ONE,), {"new wall s": "≤ 0.65", "seen wall s": "≤ 0.6"}),
    Row(
        "1800-token prompt during a stream",
        scenarios.intrusion,
        (FINE, EIGHT),
        {"worst gap s": "≤ 1.1", "late ttft s": "≤ 1.25"},
    ),
    Row(
        "a crowd",
        scenarios.crowd,
        (EIGHT,),
        {"tok/s": "≥ 1.5", "ttft p95 s": "≤ 0.25", "gap p95 ms": "≤ 0.6"},
    ),
    Row("one busy neighbour", scenarios.busy_neighbour, (ONE,), {"tok/s": "≥ 1.5"}),
    Row("after a reload", scenarios.reload, (), {}, own={"after reload ms": "≤ 0.10 of cold ms"}),
    Row("processor time outside libllama, 13M", scenarios.overhead, (), {}, small=True, bounds=OUTSIDE),
    Row("processor time outside libllama, 0.5B", scenarios.overhead, (), {}, bounds=OUTSIDE),
    Row("/api/tags and /api/ps under 16 streams", scenarios.listing, (), {}, bounds={"p99 ms": "≤ 100"}),
)

LIFECYCLE = {
    row.name: row
    for row in (
        Row("process start to first token", None, (EIGHT,), {}, bounds={"start s": "≤ 1.2"}),
        Row("model switch in a running server", None, (), {}, bounds={"switch s": "≤ 0.5"}),
        Row("resident after 2 × 16 prompts of 500 tokens", None, (EIGHT,), {"resident MB": "≤ 1.1"}),
    )
}
