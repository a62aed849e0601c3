"""The importance matrix of a model: how strongly each column of each weight is asked for while it reads.

Runs the model over calibration text and sums the squares of what its weights are multiplied with, as llama.cpp's
``llama-imatrix`` does. The embedding and the output matrix are left out, as there: with a matrix they do worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from converters.errors import ConversionFailed, InvalidSource
from converters.gguf import calibration
from converters.gguf.calibration import Report, Tokens
from converters.gguf.imatrix_file import Entry, ImportanceMatrix
from converters.gguf.libllama import Log, loaded
from converters.gguf.plan import OUTER
from converters.gguf.quantize import read_parts
from converters.gguf.watch import Floats, Watch

OWN_WORDS = "the model's own words"


@dataclass(slots=True)
class Sums:
    """Collects. ``weights``: the names that count."""

    weights: frozenset[str]
    squares: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    counts: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def wants(self, name: str) -> bool:
        return name in self.weights

    def rows(self, name: str, part: int, parts: int, rows: Floats) -> None:
        if name not in self.squares:
            self.squares[name] = np.zeros((parts, rows.shape[1]))
            self.counts[name] = np.zeros(parts)
        self.squares[name][part] += np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        self.counts[name][part] += len(rows)

    def entries(self) -> dict[str, Entry]:
        made = {
            name: Entry(sums.astype(np.float32), self.counts[name].astype(np.float32))
            for name, sums in self.squares.items()
        }
        for name, entry in made.items():
            if not np.isfinite(entry.sums).all():
                raise ConversionFailed(f"the model's numbers overflow in {name}: no importance matrix can be computed")
        return made


def compute(
    source: Path,
    texts: Sequence[Path],
    report: Report,
    *,
    chunk: int = calibration.CHUNK,
    chunks: int = 0,
    threads: int = 0,
    datasets: Sequence[str] = (),
) -> ImportanceMatrix:
    """``texts``: UTF-8 files; none = the model's own words. ``chunks``: at most so many of ``chunk`` tokens, 0 = all.

    InvalidSource for a model that cannot be run or text that is too short; ConversionFailed when the run fails.
    """
    headers = read_parts(source)
    weights = frozenset(t.name for header in headers for t in header.tensors) - frozenset(OUTER)
    sums = Sums(weights)
    with Log() as log, loaded(source, log) as model:
        chunk = _window(model, chunk)
        if texts:
            pieces = calibration.of_texts(model, texts, chunk, chunks)
            _read(model, pieces, sums, threads, report)
        else:
            count = chunks or calibration.SELF_CHUNKS
            pieces = calibration.of_itself(model, chunk, count, threads, lambda done, total: report(done, 2 * total))
            _read(model, pieces, sums, threads, lambda done, total: report(total + done, 2 * total))
    if not sums.squares:
        raise InvalidSource("no weight of this model is multiplied in a way that an importance matrix could describe")
    named = tuple(datasets) or tuple(path.name for path in texts) or (OWN_WORDS,)
    return ImportanceMatrix(sums.entries(), named, len(pieces), chunk)


def _window(model: Any, chunk: int) -> int:
    trained = lib.llama_model_n_ctx_train(model)
    return min(chunk, trained) if trained > 0 else chunk


def _read(model: Any, pieces: Sequence[Tokens], sums: Sums, threads: int, report: Callable[[int, int], None]) -> None:
    watch = Watch(sums)
    total, done = sum(map(len, pieces)), 0
    window = max(map(len, pieces))
    with calibration.context(model, window=window, threads=threads, watch=watch.callback) as pointer:
        for piece in pieces:
            if memory := lib.llama_get_memory(pointer):
                lib.llama_memory_clear(memory, True)
            places = np.arange(len(piece), dtype=np.int32)
            code = calibration.decode(pointer, piece, places, np.zeros(len(piece), np.int32))
            if watch.problem is not None:
                raise watch.problem
            if code != 0:
                raise ConversionFailed("llama.cpp could not run the model over the calibration text")
            done += len(piece)
            report(done, total)
