"""Every row of the table: what its family writes is read as the calls that were meant, however it arrives."""

from __future__ import annotations

import os
import random
from itertools import pairwise

import pytest
import random_calls

from server.types import Chunk, ToolCall
from server.worker.chat.formats import tool_parser
from server.worker.chat.formats.calls import CallCounter
from server.worker.chat.formats.render import render
from server.worker.chat.formats.row import ToolFormat
from server.worker.chat.formats.rows import ROWS

Said = tuple[str, list[tuple[str, object]]]
PARSED = [row for row in ROWS if row.kind != "harmony"]
AROUND = {"none": ("", ""), "before": ("Let me see.\n", "")}


def read(row: ToolFormat, tools: dict[str, dict[str, object]], text: str, cuts: list[int]) -> Said:
    parser = tool_parser(row, tools, CallCounter(random.Random(1)))
    points = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    chunks: list[Chunk] = []
    for a, b in pairwise(points):
        chunks += parser.feed(text[a:b])
    chunks += parser.finish()
    called = [(call.name, call.arguments) for chunk in chunks for call in chunk.tool_calls]
    return "".join(chunk.content for chunk in chunks), called


def meant(calls: list[ToolCall]) -> list[tuple[str, object]]:
    return [(call.name, call.arguments) for call in calls]


def check(row: ToolFormat, seed: int, *, every_cut: bool) -> None:
    rng = random.Random(f"{row.name}/{seed}")
    tools = random_calls.tools(rng)
    calls = random_calls.calls(rng, tools, row)
    said = "Let me see.\n" if row.openings and row.openings != ("[",) and row.name != "llama3" and seed % 3 == 0 else ""
    text = said + render(row, calls)
    cuttings = [[], list(range(len(text)))] + [[rng.randrange(len(text) + 1) for _ in range(5)] for _ in range(2)]
    if every_cut:
        cuttings += [[cut] for cut in range(1, len(text))]
    for cuts in cuttings:
        assert read(row, tools, text, cuts) == (said, meant(calls)), f"{row.name} seed {seed} cuts {cuts}: {text!r}"


@pytest.mark.parametrize("row", PARSED, ids=lambda row: row.name)
def test_reading_undoes_rendering(row: ToolFormat) -> None:
    for seed in range(40):
        check(row, seed, every_cut=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("row", PARSED, ids=lambda row: row.name)
def test_campaign_reading_undoes_rendering(row: ToolFormat) -> None:
    """``scripts/test -m slow tests/unit/worker_chat/test_tool_rows.py``; LLAMADA_CALLS: calls per row."""
    for seed in range(int(os.environ.get("LLAMADA_CALLS", "1000"))):
        check(row, seed, every_cut=seed < 200)
