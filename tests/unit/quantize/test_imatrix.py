from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_gguf as tiny
from gguf import GGUFReader

from converters.errors import ConversionFailed, InvalidSource, OutputExists
from converters.gguf import calibration, imatrix, imatrix_file, watch
from converters.gguf.imatrix_file import Entry, ImportanceMatrix
from converters.gguf.libllama import Log, loaded

ROOT = Path(__file__).parents[3]
EMBEDDER = tiny.NANO.with_name("nano-embed.gguf")


def nothing(done: int, total: int) -> None:
    pass


def of_numpy(model: Path, shape: tiny.Shape, vocabulary: int, text: Path) -> tiny.Inputs:
    """What the weights are multiplied with, by a forward pass of our own over the same chunks."""
    with Log() as log, loaded(model, log) as pointer:
        pieces = calibration.of_texts(pointer, [text], 128, 3)
    inputs = tiny.Inputs()
    tensors = tiny.random_tensors(shape, vocabulary)
    for piece in pieces:
        tiny.forward(shape, tensors, piece, inputs)
    return inputs


@pytest.mark.parametrize("experts", [0, 4])
def test_the_sums_are_those_of_a_forward_pass_in_numpy(dense, mixture, vocabulary, text, experts):
    model, shape = (mixture if experts else dense), tiny.Shape(experts=experts)
    expected = of_numpy(model, shape, vocabulary, text)
    found = imatrix.compute(model, [text], nothing, chunk=128, chunks=3, threads=1)
    assert found.entries.keys() == expected.keys() - {"output.weight"}
    assert (found.chunks, found.chunk_size, found.datasets) == (3, 128, ("text.txt",))
    for name, entry in found.entries.items():
        sums, counts = np.zeros(entry.sums.shape), np.zeros(len(entry.counts))
        for expert, rows in expected[name]:
            sums[expert] += (rows**2).sum(0)
            counts[expert] += len(rows)
        np.testing.assert_array_equal(entry.counts, counts, name)
        np.testing.assert_allclose(entry.sums, sums, rtol=1e-4, err_msg=name)
    if experts:
        assert found.entries["blk.0.ffn_down_exps.weight"].sums.shape == (4, 512)


def test_the_models_own_words_are_the_same_every_time(dense):
    seen: list[tuple[int, int]] = []
    first = imatrix.compute(dense, [], lambda *at: seen.append(at), chunk=32, chunks=9, threads=1)
    again = imatrix.compute(dense, [], nothing, chunk=32, chunks=9, threads=1)
    assert (first.chunks, first.datasets) == (9, ("the model's own words",))
    assert first.entries["blk.1.ffn_down.weight"].counts.tolist() == [9 * 32]
    for name, entry in first.entries.items():
        np.testing.assert_array_equal(entry.sums, again.entries[name].sums)
    assert seen == sorted(seen)
    assert seen[-1] == (2 * 9 * 32, 2 * 9 * 32)


def test_its_own_words_hold_no_end_of_text(dense):
    with Log() as log, loaded(dense, log) as model:
        pieces = calibration.of_itself(model, 64, 3, 1, nothing)
        ends = {t for t in range(512) if watch.lib.llama_vocab_is_eog(watch.lib.llama_model_get_vocab(model), t)}
    assert [len(piece) for piece in pieces] == [64] * 3
    assert ends
    assert not ends & {int(token) for piece in pieces for token in piece}
    assert len({piece.tobytes() for piece in pieces}) == 3


def test_embedding_models_read_but_do_not_write(text):
    found = imatrix.compute(EMBEDDER, [text], nothing, chunk=64, chunks=2, threads=1)
    assert "blk.0.attn_q.weight" in found.entries


def test_texts_that_will_not_do(dense, tmp_path):
    (tmp_path / "short.txt").write_text("too little")
    (tmp_path / "latin.txt").write_bytes(b"\xe9" * 1000)
    for name, words in (("short.txt", "at least 256 are needed"), ("latin.txt", "not UTF-8"), ("none", "no such file")):
        with pytest.raises(InvalidSource, match=words):
            imatrix.compute(dense, [tmp_path / name], nothing)


def test_another_layout_of_tensors_is_noticed(dense, text, monkeypatch):
    real = watch._ggml_base()

    class Other:
        def __getattr__(self, name: str):
            return (lambda _: b"another name") if name == "ggml_get_name" else getattr(real, name)

    monkeypatch.setattr(watch, "_ggml_base", Other)
    with pytest.raises(ConversionFailed, match="lays its tensors out in a way that is not known"):
        imatrix.compute(dense, [text], nothing, chunk=64, chunks=1)


# -- files --------------------------------------------------------------------------------------------------


def example() -> ImportanceMatrix:
    dense = Entry(np.array([[1, 4]], np.float32), np.array([2], np.float32))
    mixed = Entry(np.array([[6, 9], [0, 0]], np.float32), np.array([3, 0], np.float32))
    return ImportanceMatrix({"blk.0.a.weight": dense, "blk.0.b_exps.weight": mixed}, ("wiki", "code"), 5, 512)


def test_means_and_experts_without_tokens():
    matrix = example()
    assert matrix.entries["blk.0.a.weight"].means().tolist() == [0.5, 2]
    assert matrix.entries["blk.0.b_exps.weight"].means().tolist() == [2, 3, 1, 1]
    assert matrix.silent_experts == 1


def test_written_as_llama_cpp_writes_and_read_back(tmp_path):
    imatrix_file.write(example(), tmp_path / "m.gguf")
    reader = GGUFReader(tmp_path / "m.gguf")
    assert {f.name: f.contents() for f in reader.fields.values() if not f.name.startswith("GGUF.")} == {
        "general.type": "imatrix", "imatrix.datasets": ["wiki", "code"], "imatrix.chunk_count": 5,
        "imatrix.chunk_size": 512,
    }  # fmt: skip
    tensors = {t.name: (t.tensor_type.name, tuple(t.shape), t.data.ravel().tolist()) for t in reader.tensors}
    assert tensors == {
        "blk.0.a.weight.in_sum2": ("F32", (2, 1), [1, 4]),
        "blk.0.a.weight.counts": ("F32", (1, 1), [2]),
        "blk.0.b_exps.weight.in_sum2": ("F32", (2, 2), [6, 9, 0, 0]),
        "blk.0.b_exps.weight.counts": ("F32", (1, 2), [3, 0]),
    }
    back = imatrix_file.read(tmp_path / "m.gguf")
    assert (back.datasets, back.chunks, back.chunk_size) == (("wiki", "code"), 5, 512)
    assert back.entries["blk.0.b_exps.weight"].sums.tolist() == [[6, 9], [0, 0]]
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]
    with pytest.raises(OutputExists):
        imatrix_file.write(example(), tmp_path / "m.gguf")


def dat(*entries: tuple[str, int, list[float]]) -> bytes:
    data = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, len(values))
        data += struct.pack(f"<{len(values)}f", *values)
    return data + struct.pack("<ii", 7, 4) + b"wiki"


def test_the_old_form_is_read(tmp_path):
    (tmp_path / "m.dat").write_bytes(dat(("blk.0.a.weight", 2, [1, 4]), ("blk.1.a.weight", 0, [3, 3])))
    matrix = imatrix_file.read(tmp_path / "m.dat")
    assert matrix.entries["blk.0.a.weight"].means().tolist() == [0.5, 2]
    assert matrix.entries["blk.1.a.weight"].means().tolist() == [3, 3]
    assert (matrix.datasets, matrix.chunks) == (("wiki",), 7)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", dat()[:-9], dat(("a", 1, [1.0]))[:14], dat(("a", 1, [float("nan")])), b"\xff" * 64,
     struct.pack("<ii", 1, 2**31 - 1), b"GGUF" + b"\0" * 40],
)  # fmt: skip
def test_files_that_are_none(tmp_path, data):
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(InvalidSource, match="importance matrix"):
        imatrix_file.read(tmp_path / "m")


def test_a_model_is_no_importance_matrix(dense, tmp_path):
    with pytest.raises(InvalidSource, match="a GGUF of another kind"):
        imatrix_file.read(dense)
    with pytest.raises(InvalidSource, match="no such file"):
        imatrix_file.read(tmp_path / "none")


def test_as_a_process(dense, text, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "converters", "imatrix", "--in", dense, "--out", tmp_path / "m.gguf", "--text", text,
         "--dataset", "house", "--chunk", "64", "--chunks", "2", "--threads", "1"],
        cwd=ROOT, env={}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1]) == {"completed": 1, "total": 1}
    assert imatrix_file.read(tmp_path / "m.gguf").datasets == ("house",)
