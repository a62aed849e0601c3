from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from converters.errors import ConversionFailed, InvalidSource, OutputExists, UnsupportedType
from converters.gguf.quantize import quantize, type_named
from modelfiles.gguf import read_header

MODELS = Path(__file__).parents[2] / "golden" / "models"
ROOT = Path(__file__).parents[3]


def nothing(completed: int, total: int) -> None:
    pass


def rewrite(source: Path, target: Path, change) -> Path:
    """A copy of a GGUF whose tensors went through ``change(name, array) -> array``."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kinds = field.types
            writer.add_key_value(field.name, field.contents(), kinds[0], kinds[1] if len(kinds) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, change(tensor.name, np.array(tensor.data)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_copy_is_the_file_that_ollama_makes(tmp_path):
    quantize(MODELS / "nano.gguf", tmp_path / "out", "copy", nothing)
    digest = hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest()
    assert digest == "01c6d17dae4bbd165d862f93d741ba9fffbdcc3af258cbb85f8d80d7f8b31543"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["q8_0", "Q4_K_M", "bf16", "F32", "q5_1", "iq4_nl", "q3_k"])
def test_types_by_name_in_any_case(tmp_path, name):
    seen: list[tuple[int, int]] = []
    quantize(MODELS / "nano.gguf", tmp_path / "out", name, lambda done, total: seen.append((done, total)))
    header = read_header(tmp_path / "out")
    assert header.file_type == type_named(name)
    assert header.architecture == "llama"
    total = sum(t.nbytes for t in read_header(MODELS / "nano.gguf").tensors)
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_an_f32_source_works(tmp_path):
    source = rewrite(MODELS / "nano.gguf", tmp_path / "f32.gguf", lambda _, data: data.astype(np.float32))
    quantize(source, tmp_path / "out", "Q8_0", nothing)
    assert {t.type for t in read_header(tmp_path / "out").tensors} == {"F32", "Q8_0"}


def test_a_quantized_source_is_refused_but_may_be_copied(tmp_path):
    quantize(MODELS / "nano.gguf", tmp_path / "q8", "q8_0", nothing)
    with pytest.raises(UnsupportedType, match=r"^quantization is only supported for F16, BF16 and F32 models; "):
        quantize(tmp_path / "q8", tmp_path / "out", "q4_0", nothing)
    quantize(tmp_path / "q8", tmp_path / "copy", "COPY", nothing)
    assert read_header(tmp_path / "copy").file_type == "Q8_0"


@pytest.mark.parametrize("name", ["", "q9", "NVFP4", "Q4_0_4_4", "../x"])
def test_unknown_types(tmp_path, name):
    with pytest.raises(UnsupportedType, match="unsupported quantization type"):
        quantize(MODELS / "nano.gguf", tmp_path / "out", name, nothing)


def test_what_llama_cpp_refuses_is_told_in_its_words_without_paths(tmp_path):
    (tmp_path / "odd.gguf").write_bytes((MODELS / "nano.gguf").read_bytes().replace(b"llama", b"lloma"))
    with pytest.raises(ConversionFailed) as error:
        quantize(tmp_path / "odd.gguf", tmp_path / "out", "Q8_0", nothing)
    assert error.value.message == "llama.cpp could not rewrite the model: unknown model architecture: 'lloma'"
    assert [p.name for p in tmp_path.iterdir()] == ["odd.gguf"]


def test_not_a_number_in_the_weights_is_refused(tmp_path):
    def poison(name: str, data: np.ndarray) -> np.ndarray:
        if name == "blk.0.attn_q.weight":
            data = data.copy()
            data.flat[7] = np.nan
        return data

    source = rewrite(MODELS / "nano.gguf", tmp_path / "nan.gguf", poison)
    with pytest.raises(ConversionFailed, match=r"blk\.0\.attn_q\.weight"):
        quantize(source, tmp_path / "out", "copy", nothing)


def test_a_file_that_does_not_load_gets_no_name(tmp_path):
    source = rewrite(MODELS / "nano.gguf", tmp_path / "odd.gguf",
                     lambda name, data: data[:, :32] if name == "blk.0.attn_q.weight" else data)  # fmt: skip
    with pytest.raises(ConversionFailed, match="cannot load the model"):
        quantize(source, tmp_path / "out", "copy", nothing)
    assert [p.name for p in tmp_path.iterdir()] == ["odd.gguf"]


def test_bad_sources_and_taken_destinations(tmp_path):
    with pytest.raises(InvalidSource, match="cannot read the model: no such file"):
        quantize(tmp_path / "none", tmp_path / "out", "copy", nothing)
    (tmp_path / "junk").write_bytes(b"x" * 100)
    with pytest.raises(InvalidSource, match="not in GGUF format"):
        quantize(tmp_path / "junk", tmp_path / "out", "copy", nothing)
    with pytest.raises(OutputExists):
        quantize(MODELS / "nano.gguf", tmp_path / "junk", "copy", nothing)


def split(source: Path, folder: Path) -> Path:
    """The model in two files, the way llama.cpp splits."""
    reader = GGUFReader(source)
    half = len(reader.tensors) // 2
    first = folder / "m-00001-of-00002.gguf"
    for number, (path, tensors) in enumerate(
        [(first, reader.tensors[:half]), (folder / "m-00002-of-00002.gguf", reader.tensors[half:])]
    ):
        writer = GGUFWriter(path, "llama")
        for field in reader.fields.values():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                kinds = field.types
                writer.add_key_value(field.name, field.contents(), kinds[0], kinds[1] if len(kinds) > 1 else None)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return first


def test_split_models_become_one_file(tmp_path):
    first = split(MODELS / "nano.gguf", tmp_path)
    quantize(first, tmp_path / "out", "copy", nothing)
    assert len(read_header(tmp_path / "out").tensors) == len(read_header(MODELS / "nano.gguf").tensors)
    assert "split.count" not in read_header(tmp_path / "out").metadata
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(InvalidSource):
        quantize(first, tmp_path / "again", "copy", nothing)


def child(*given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "converters", *given], cwd=ROOT, env={}, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip


def test_as_a_process_without_any_environment(tmp_path):
    done = child("quantize", "--in", str(MODELS / "nano.gguf"), "--out", str(tmp_path / "out"), "--type", "q8_0")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["completed"] == lines[-1]["total"] > 0
    again = child("quantize", "--in", str(MODELS / "nano.gguf"), "--out", str(tmp_path / "out"), "--type", "q8_0")
    assert again.returncode == 1
    assert "exists already" in json.loads(again.stdout)["error"]


def test_a_vocabulary_that_libllama_cannot_read_is_found_at_once(tmp_path):
    data = bytearray((MODELS / "nano.gguf").read_bytes())
    at = data.index(b"tokenizer.ggml.model") + len(b"tokenizer.ggml.model") + 4
    (size,) = struct.unpack_from("<Q", data, at)
    assert data[at + 8 : at + 8 + size] == b"gpt2"
    data[at + 8 : at + 8 + size] = b"llam"  # an unknown tokenizer of the same length
    (tmp_path / "bad.gguf").write_bytes(data)
    done = child("quantize", "--in", str(tmp_path / "bad.gguf"), "--out", str(tmp_path / "out"), "--type", "copy")
    assert done.returncode == 1
    assert "tokenizer" in json.loads(done.stdout.splitlines()[-1])["error"]
    assert not (tmp_path / "out").exists()
