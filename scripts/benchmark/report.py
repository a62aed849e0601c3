"""Medians, ratios and verdicts of a run, as Markdown and JSON."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmark.rows import Row
from benchmark.scenarios import Figures

LOWER_IS_BETTER = (" ms", " s", "/token")


@dataclass
class Result:
    """All measured figures of one row: ours, and the peer's by flags."""

    row: Row
    ours: list[Figures] = field(default_factory=list)
    peers: dict[str, list[Figures]] = field(default_factory=dict)
    others: dict[str, list[Figures]] = field(default_factory=dict)
    """Servers that are shown beside, without a bound: llama_cpp.server, an Ollama."""

    def median(self, runs: list[Figures], figure: str) -> float:
        return statistics.median(run[figure] for run in runs) if runs else float("nan")

    def peer(self, figure: str, only: str | None = None) -> tuple[float, str]:
        """The best peer's median and its flags."""
        found = {flags: self.median(runs, figure) for flags, runs in self.peers.items() if only in (None, flags)}
        if not found:
            return float("nan"), ""
        pick = min if figure.endswith(LOWER_IS_BETTER) else max
        flags = pick(found, key=lambda f: found[f])
        return found[flags], flags

    def lines(self) -> list[str]:
        figures = self.ours[0] if self.ours else {}
        return [self._line(figure) for figure in figures]

    def _line(self, figure: str) -> str:
        ours = self.median(self.ours, figure)
        asked = self.row.asked.get(figure) or self.row.own.get(figure, "")
        if figure in self.row.own:
            other = asked.partition(" of ")[2]
            value, flags = self.median(self.ours, other), other
        else:
            value, flags = self.peer(figure, asked.partition(" of ")[2] or None)
        ratio = ours / value if value == value and value else float("nan")
        beside = "; ".join(f"{name} {show(self.median(runs, figure))}" for name, runs in self.others.items())
        peer = f"{show(value)} ({flags})" if flags else "–"
        cells = [self.row.name, figure, show(ours), peer, beside or "–", show(ratio), asked]
        return "| " + " | ".join([*cells, verdict(ratio, asked)]) + " |"

    def plain(self) -> dict[str, Any]:
        return {
            "row": self.row.name,
            "asked": self.row.asked,
            "llamada": self.ours,
            "llama-server": self.peers,
            **self.others,
        }


def show(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def verdict(ratio: float, asked: str) -> str:
    """ "yes", "no", or "" where nothing is asked or measured."""
    if not asked or ratio != ratio:
        return ""
    sign, bound = asked.split(" of ")[0].split()
    met = ratio >= float(bound) if sign == "≥" else ratio <= float(bound)
    return "yes" if met else "**no**"


def table(results: list[Result]) -> str:
    head = (
        "| row | figure | llamada | llama-server, best flags | others | ratio | asked | met |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(line for result in results for line in result.lines())
