"""Medians, ratios and verdicts of a run, as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmark.rows import LIFECYCLE, ROWS, Row
from benchmark.scenarios import Figures

MARKS = ("<!-- measured -->", "<!-- /measured -->")
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
        bound = self.row.bounds.get(figure, "")
        if figure in self.row.own:
            other = asked.partition(" of ")[2]
            value, flags = self.median(self.ours, other), other
        else:
            value, flags = self.peer(figure, asked.partition(" of ")[2] or None)
        ratio = ours / value if value == value and value else float("nan")
        beside = "; ".join(f"{name} {show(self.median(runs, figure))}" for name, runs in self.others.items())
        peer = f"{show(value)} ({flags})" if flags else "–"
        cells = [self.row.name, figure, show(ours), peer, beside or "–", show(ratio), asked or bound]
        met = verdict(ours, bound) if bound else verdict(ratio, asked)
        return "| " + " | ".join([*cells, met]) + " |"

    def plain(self) -> dict[str, Any]:
        return {"row": self.row.name, "llamada": self.ours, "llama-server": self.peers, "others": self.others}


def read(path: Path) -> list[Result]:
    """What an earlier run wrote with ``--out``."""
    rows = {row.name: row for row in ROWS} | LIFECYCLE
    found = json.loads(path.read_text(encoding="utf-8"))
    return [Result(rows[r["row"]], r["llamada"], r["llama-server"], r["others"]) for r in found]


def join(results: list[Result]) -> list[Result]:
    """Rounds of the same row that were measured in several runs, together."""
    joined: dict[str, Result] = {}
    for result in results:
        kept = joined.setdefault(result.row.name, Result(result.row))
        kept.ours += result.ours
        for known, new in ((kept.peers, result.peers), (kept.others, result.others)):
            for name, runs in new.items():
                known.setdefault(name, []).extend(runs)
    return list(joined.values())


def write_page(page: Path, results: list[Result]) -> None:
    """Puts the table between the marks of ``page``."""
    head, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    rounds = sorted({len(result.ours) for result in results})
    said = f"{machine()}. Rounds per row: {' to '.join(map(str, (rounds[0], rounds[-1])[: len(rounds)]))}."
    page.write_text(f"{head}{MARKS[0]}\n{said}\n\n{table(results)}\n{MARKS[1]}{tail}", encoding="utf-8")


def machine() -> str:
    """Processor, cores, memory and llama.cpp build in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in named.get("flags", "").split()]
    name = named.get("model name") or platform.processor() or platform.machine()
    memory = psutil.virtual_memory().total / 2**30
    family = f"family {named['cpu family']} model {named['model']}, " if "model" in named else ""
    return f"{name} ({family}{', '.join(flags)}), {os.cpu_count()} cores, {memory:.0f} GiB"


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
