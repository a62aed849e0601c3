"""The bench's table: which peer counts, what is met, and that earlier runs are shown again as they were."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark.report import Result, join, read, table, verdict, write_page  # noqa: E402
from benchmark.rows import EIGHT, LIFECYCLE, ONE, ROWS  # noqa: E402

ROW = {row.name: row for row in ROWS}


@pytest.mark.parametrize(
    ("value", "asked", "said"),
    [
        (0.98, "≥ 0.98", "yes"),
        (0.97, "≥ 0.98", "**no**"),
        (1.2, "≤ 1.2 of cold ms", "yes"),
        (1.3, "≤ 1.2", "**no**"),
        (float("nan"), "≤ 1", ""),
        (1.0, "", ""),
    ],
)
def test_verdicts(value: float, asked: str, said: str) -> None:
    assert verdict(value, asked) == said


def test_the_best_flags_of_a_figure_count() -> None:
    result = Result(ROW["TTFT, 512 tokens"], [{"cold ms": 10.0, "repeated ms": 2.0}])
    result.peers = {ONE: [{"cold ms": 10.0, "repeated ms": 4.0}], EIGHT: [{"cold ms": 20.0, "repeated ms": 1.0}]}
    cold, again = result.lines()
    assert f"10 ({ONE})" in cold
    assert cold.endswith("| 1 | ≤ 1.03 | yes |")
    assert f"1 ({EIGHT})" in again
    assert again.endswith("| 2 | ≤ 1.2 | **no** |")


def test_bounds_hold_for_the_figure_itself() -> None:
    switch = Result(LIFECYCLE["model switch in a running server"], [{"switch s": 0.4}])
    assert switch.lines()[0].endswith("≤ 0.5 | yes |")


def test_runs_are_written_and_read_again(tmp_path: Path) -> None:
    result = Result(ROW["one stream"], [{"tok/s": 50.0}, {"tok/s": 60.0}, {"tok/s": 55.0}], {ONE: [{"tok/s": 55.0}]})
    (tmp_path / "run.json").write_text(json.dumps([result.plain()]))
    again = read(tmp_path / "run.json")
    assert table(again) == table([result])
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n")
    write_page(page, again)
    text = page.read_text()
    assert text.startswith("before\n<!-- measured -->\n")
    assert text.endswith("<!-- /measured -->\nafter\n")
    assert "old" not in text
    assert "| one stream | tok/s | 55 | 55 (-np 1) |" in text


def test_rounds_of_several_runs_count_together() -> None:
    row = ROW["one stream"]
    runs = [Result(row, [{"tok/s": rate}], {ONE: [{"tok/s": 50.0}]}) for rate in (10.0, 50.0, 60.0)]
    (together,) = join(runs)
    assert together.lines() == ["| one stream | tok/s | 50 | 50 (-np 1) | – | 1 | ≥ 0.98 | yes |"]
    assert len(together.peers[ONE]) == 3
