"""The header of good files, and how quickly a big one is read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from gguf_maker import Maker, llama

from modelfiles.errors import GGUFError
from modelfiles.gguf import GGUFArray, read_header
from modelfiles.gguf_types import TENSOR_TYPES, SplitName, size_text

MODELS = Path(__file__).parents[2] / "golden" / "models"


@pytest.mark.parametrize("name", ["nano", "nano-tools", "nano-embed", "nano-bare"])
def test_golden_models(name: str) -> None:
    header = read_header(MODELS / f"{name}.gguf")
    assert header.version == 3
    assert header.text("general.name") == name
    assert (header.architecture, header.kind) == ("llama", "model")
    assert (header.parameter_count, header.parameter_size, header.file_type) == (113984, "114K", "F16")
    assert (header.context_length, header.embedding_length, header.block_count) == (1024, 64, 2)
    assert (header.head_count, header.head_count_kv, header.key_length, header.value_length) == (4, 4, 16, 16)
    assert (header.vocabulary_size, header.bos, header.eos) == (496, 489, 491)
    assert header.pooling == ("mean" if name == "nano-embed" else None)
    assert (header.chat_template is not None) == (name in ("nano", "nano-tools"))
    assert len(header.tensors) == 20
    assert header.tensors[0].name == "token_embd.weight"
    assert (header.tensors[0].shape, header.tensors[0].type) == ((64, 496), "F16")
    assert header.tensors[0].nbytes == 64 * 496 * 2
    last = header.tensors[-1]
    assert header.data + last.offset + last.nbytes <= header.size == (MODELS / f"{name}.gguf").stat().st_size


def test_arrays_are_read_on_demand() -> None:
    metadata = read_header(MODELS / "nano.gguf").metadata
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, GGUFArray)
    assert isinstance(kinds, GGUFArray)
    texts = tokens.values()
    assert (len(texts), texts[0], texts[488], texts[491]) == (496, "!", texts[488], "<|im_end|>")
    assert kinds.type == "i32"
    assert kinds.values()[:3] == [1, 1, 1]


def test_values_of_every_type(tmp_path: Path) -> None:
    cases: dict[str, object] = {
        "u8": 200,
        "i8": -3,
        "u16": 60000,
        "i16": -300,
        "u32": 2**32 - 1,
        "i32": -(2**31),
        "f32": 0.5,
    }
    cases |= {"bool": True, "string": "é", "u64": 2**64 - 1, "i64": -(2**63), "f64": 0.1}
    maker = Maker(version=2)
    for kind, content in cases.items():
        maker.key(kind, kind, content).key(f"many.{kind}", f"[{kind}]", [content] * 5000).key(
            f"no.{kind}", f"[{kind}]", []
        )
    header = read_header(maker.write(tmp_path))
    for kind, content in cases.items():
        assert (header.metadata[kind], header.types[kind]) == (content, kind)
        many, none = header.metadata[f"many.{kind}"], header.metadata[f"no.{kind}"]
        assert isinstance(many, GGUFArray)
        assert isinstance(none, GGUFArray)
        assert (many.type, many.length, many.values()) == (kind, 5000, [content] * 5000)
        assert none.values() == []


def test_per_layer_settings(tmp_path: Path) -> None:
    maker = Maker().key("general.architecture", "string", "lfm2").key("lfm2.attention.head_count", "u32", 8)
    maker.key("lfm2.attention.head_count_kv", "[i32]", [0, 2, 0, 2]).key("lfm2.embedding_length", "u32", 64)
    header = read_header(maker.write(tmp_path))
    assert header.per_layer("attention.head_count_kv") == (0, 2, 0, 2)
    assert (header.head_count, header.head_count_kv, header.key_length) == (8, 2, 8)


def test_file_that_says_little(tmp_path: Path) -> None:
    header = read_header(Maker().write(tmp_path))
    assert (header.architecture, header.parameter_size, header.file_type) == ("", "0", "unknown")
    assert (header.context_length, header.block_count, header.head_count, header.key_length) == (0, 0, 0, 0)
    assert (header.vocabulary_size, header.bos, header.pooling, header.chat_template) == (0, None, None, None)


def test_kinds(tmp_path: Path) -> None:
    adapter = llama().key("general.type", "string", "adapter").write(tmp_path)
    assert read_header(adapter).kind == "adapter"
    assert read_header(Maker().key("general.architecture", "string", "clip").write(tmp_path)).kind == "projector"


def test_every_tensor_type_has_its_size(tmp_path: Path) -> None:
    for number, kind in TENSOR_TYPES.items():
        nbytes = 512 // kind.block * kind.size * 3
        header = read_header(Maker().tensor(shape=(512, 3), type=number, nbytes=nbytes).write(tmp_path))
        assert (header.tensors[0].type, header.tensors[0].nbytes) == (kind.name, nbytes)


def test_custom_alignment(tmp_path: Path) -> None:
    maker = (
        Maker(alignment=64).key("general.alignment", "u32", 64).tensor(name="a", shape=(1,), nbytes=4).tensor(name="b")
    )
    header = read_header(maker.write(tmp_path))
    assert (header.alignment, header.data % 64, header.tensors[1].offset) == (64, 0, 64)


def test_big_vocabulary_is_read_at_once(tmp_path: Path) -> None:
    """150 000 tokens and their merges, some of them long; the best of three, for the machine may be busy."""
    tokens = [f"{n:x}" * (1 + n % 4) for n in range(149_999)] + ["x" * 300]
    maker = llama().key("tokenizer.ggml.tokens", "[string]", tokens).key("tokenizer.ggml.merges", "[string]", tokens)
    maker.key("tokenizer.ggml.token_type", "[i32]", [1] * 150_000).tensor()
    path = maker.write(tmp_path)
    took = []
    for _ in range(3):
        start = time.process_time()
        header = read_header(path)
        took.append(time.process_time() - start)
    assert header.vocabulary_size == 150_000
    assert min(took) < 0.15
    array = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(array, GGUFArray)
    assert array.values() == tokens


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GGUFError, match="not a regular file"):
        read_header(tmp_path / "pipe")
    with pytest.raises((GGUFError, IsADirectoryError)):
        read_header(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "missing.gguf")


def test_array_of_a_file_that_changed(tmp_path: Path) -> None:
    path = llama().key("tokenizer.ggml.tokens", "[string]", ["a", "bc", "d"]).write(tmp_path)
    array = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(array, GGUFArray)
    path.write_bytes(path.read_bytes().replace(b"\x02\0\0\0\0\0\0\0bc", b"\x02\0\0\0\0\0\0\x7fbc"))
    with pytest.raises(GGUFError, match="changed"):
        array.values()
    path.write_bytes(b"")
    with pytest.raises(GGUFError, match="shorter"):
        array.values()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1280, "1K"),
        (113984, "114K"),
        (10**6, "1M"),
        (494032768, "494.03M"),
        (7 * 10**9, "7B"),
        (3_210_000_000, "3.2B"),
        (70_553_706_496, "70.6B"),
        (10**12, "1000B"),
    ],
)
def test_size_text(count: int, text: str) -> None:
    assert size_text(count) == text


def test_split_names() -> None:
    split = SplitName.parse("big-Q8_0-00002-of-00003.gguf")
    assert split == SplitName("big-Q8_0", 2, 3)
    assert split.file(3) == "big-Q8_0-00003-of-00003.gguf"
    for name in (
        "big.gguf",
        "big-00004-of-00003.gguf",
        "big-00000-of-00003.gguf",
        "big-1-of-3.gguf",
        "-00001-of-00001.gguf",
    ):
        assert SplitName.parse(name) is None
