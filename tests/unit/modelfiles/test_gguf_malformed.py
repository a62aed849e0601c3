"""Files that lie: each is refused with a GGUFError, quickly and without memory."""

from __future__ import annotations

import contextlib
import struct
import time
from pathlib import Path

import pytest
from gguf_maker import Maker, llama, string, value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelfiles.errors import GGUFError
from modelfiles.gguf import GGUFArray, check_loadable, read_header

MODELS = Path(__file__).parents[2] / "golden" / "models"
U32 = value("u32", 1)


def key(name: bytes, content: bytes = U32) -> Maker:
    return Maker(keys=[(name, content)])


def array(kind: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack("<IIQ", 9, kind, length) + body


# The kinds that llama.cpp's own test makes by hand; it takes a tensor without elements, we do not.
HANDMADE = {
    "bad magic": (Maker(magic=b"FUGG"), "not in GGUF format"),
    "version 0": (Maker(version=0), "version 0"),
    "version 1": (Maker(version=1), "version 1"),
    "version of the future": (Maker(version=4), "version 4"),
    "tensors -1": (Maker(n_tensors=-1), "tensors are over the limit"),
    "keys -1": (Maker(n_keys=-1), "keys are over the limit"),
    "key size -1": (key(struct.pack("<Q", 2**64 - 1) + b"k"), "a metadata key is"),
    "empty key": (key(string("")), "empty"),
    "bad value type": (key(string("k"), struct.pack("<I", 13)), "unknown type 13"),
    "duplicate key": (Maker().key("k", "u8", 1).key("k", "u32", 1), "'k' is there twice"),
    "bad alignment": (Maker().key("general.alignment", "u32", 13), "general.alignment"),
    "wrong type of alignment": (Maker().key("general.alignment", "i32", 32), "general.alignment"),
    "tensor name too long": (Maker().tensor(name="t" * 64), "a tensor name is 64 bytes"),
    "five dimensions": (Maker().tensor(shape=(32, 1, 1, 1, 1)), "5 dimensions"),
    "negative dimension": (Maker().tensor(shape=(-32,)), "a dimension of"),
    "no elements": (Maker().tensor(shape=(0,), nbytes=0), "a dimension of 0"),
    "elements overflow": (Maker().tensor(shape=(2**31, 2**31, 2**31)), "too big"),
    "bytes overflow": (Maker().tensor(shape=(2**40, 2**22)), "too big"),
    "bytes wrap when padded": (Maker().tensor(shape=(2**40, 2**21 - 1, 1)), "cut short"),
    "bad tensor type": (Maker().tensor(type=43), "unknown type 43"),
    "removed tensor type": (Maker().tensor(type=4), "unknown type 4"),
    "bad offset": (Maker().tensor(offset=-1), "has offset"),
    "duplicate tensor": (Maker().tensor().tensor(), "'t' is there twice"),
    "bad alignment with tensors": (Maker().key("general.alignment", "u32", 0).tensor(), "general.alignment"),
    "offsets of another alignment": (
        Maker().key("general.alignment", "u32", 64).tensor(name="a", shape=(1,), nbytes=4).tensor(name="b"),
        "has offset 32, expected 64",
    ),
    "not enough data": (Maker(data=b"\0" * 127).tensor(), "cut short"),
    "data of another alignment": (
        Maker(alignment=32, data=b"\0" * 160).key("general.alignment", "u32", 1024).tensor(name="a").tensor(name="b"),
        "expected 1024",
    ),
    "memory overflow": (Maker(n_tensors=65_537).tensor(), "tensors are over the limit"),
}

MORE = {
    "big-endian": (Maker(version=3 << 24), "big-endian"),
    "fewer keys than said": (Maker(n_keys=2).key("k", "u8", 1), "empty"),
    "fewer tensors than said": (Maker(n_tensors=2, alignment=1, data=b"").tensor(), "cut short"),
    "string longer than the file": (key(string("k"), struct.pack("<IQ", 8, 2**23)), "cut short"),
    "string over the limit": (key(string("k"), struct.pack("<IQ", 8, 2**40)), "the limit is"),
    "array longer than the file": (key(string("k"), array(4, 2**20)), "cut short"),
    "strings longer than the file": (key(string("k"), array(8, 2**20)), "cut short"),
    "array over the limit": (key(string("k"), array(0, 2**27)), "the limit is"),
    "array of arrays": (key(string("k"), array(9, 1, array(4, 1, b"\0\0\0\0")[4:])), "nested"),
    "array of an unknown type": (key(string("k"), array(77, 1)), "unknown"),
    "key with NUL": (key(string(b"a\0b")), "NUL"),
    "key in Latin-1": (key(string(b"\xe9")), "UTF-8"),
    "tensor without a name": (Maker().tensor(name=""), "empty"),
    "no dimensions": (Maker().tensor(shape=()), "0 dimensions"),
    "half a block": (Maker().tensor(shape=(33,), type=8, nbytes=34), "no multiple of the 32"),
    "overlapping tensors": (Maker().tensor(name="a").tensor(name="b", offset=0), "has offset 0"),
    "alignment of 4": (Maker().key("general.alignment", "u32", 4), "general.alignment"),
    "alignment of 1 MiB": (Maker().key("general.alignment", "u32", 2**20), "general.alignment"),
}

ID = "tokenizer.ggml.eos_token_id"
TOKENS = ["a", "b", "c"]


def vocabulary(kind: str, name: str, content: object) -> Maker:
    return llama().key("tokenizer.ggml.tokens", "[string]", TOKENS).key(f"tokenizer.ggml.{name}", kind, content)


TOKENIZERS = {
    "scores as bytes": (vocabulary("[u8]", "scores", [1, 2, 3]), "wrong type"),
    "token types as bytes": (vocabulary("[i8]", "token_type", [1, 1, 1]), "wrong type"),
    "token types as one number": (vocabulary("i32", "token_type", 1), "wrong type i32"),
    "merges as numbers": (vocabulary("[i32]", "merges", [1]), "wrong type"),
    "fewer scores than tokens": (vocabulary("[f32]", "scores", [0.0]), "1 entries for 3 tokens"),
    "more types than tokens": (vocabulary("[i32]", "token_type", [1] * 4), "4 entries for 3 tokens"),
    "EOS outside": (vocabulary("u32", "eos_token_id", 3), "outside the vocabulary"),
    "BOS below": (vocabulary("i32", "bos_token_id", -2), "outside the vocabulary"),
    "EOS as text": (vocabulary("string", "eos_token_id", "c"), "wrong type"),
    "flag as number": (vocabulary("u32", "add_bos_token", 1), "wrong type"),
    "template as a list": (llama().key("tokenizer.chat_template", "[string]", ["x"]), "wrong type"),
    "named template as number": (llama().key("tokenizer.chat_template.tool_use", "u32", 1), "wrong type"),
    "tokens as numbers": (llama().key("tokenizer.ggml.tokens", "[i32]", [1]), "wrong type"),
    "no tokens": (llama().key("tokenizer.ggml.tokens", "[string]", []), "a vocabulary of 0"),
    "token of 65 KiB": (llama().key("tokenizer.ggml.tokens", "[string]", ["x" * 65537]), "a string of 65537 bytes"),
    "long token among many": (
        llama().key("tokenizer.ggml.tokens", "[string]", ["a"] * 999 + ["x" * 65537] + ["b"] * 999),
        "a string of 65537 bytes",
    ),
    "architecture as number": (Maker().key("general.architecture", "u32", 1), "must be a string"),
    "architecture as path": (Maker().key("general.architecture", "string", "../x"), "not a name"),
    "file type as text": (Maker().key("general.file_type", "string", "F16"), "must be an integer"),
}

SETTINGS = {
    "no heads": (llama(**{"attention.head_count": 0}), "from 1 to 1024"),
    "too many heads": (llama(**{"attention.head_count": 1025}), "from 1 to 1024"),
    "no KV heads": (llama(**{"attention.head_count_kv": 0}), "from 1 to 1024"),
    "heads that do not divide the width": (llama(**{"attention.head_count": 5}), "no multiple of 5 heads"),
    "KV heads that do not divide the heads": (llama(**{"attention.head_count_kv": 3}), "no multiple of 3 KV"),
    "too many layers": (llama(block_count=513), "from 1 to 512"),
    "no layers": (llama(block_count=0), "from 1 to 512"),
    "context of 4 Gi": (llama(context_length=2**32 - 1), "context_length is"),
    "too big a vocabulary": (llama(vocab_size=2**21 + 1), "vocab_size is"),
    "more experts used than there": (llama(expert_count=4, expert_used_count=5), "5 does not fit 4 experts"),
    "experts used without any": (llama(expert_used_count=2), "2 does not fit 0 experts"),
    "unknown pooling": (llama(pooling_type=9), "pooling_type is 9"),
    "width as float": (
        Maker().key("general.architecture", "string", "x").key("x.embedding_length", "f32", 64.0),
        "must be an integer",
    ),
    "layers as text": (
        Maker().key("general.architecture", "string", "x").key("x.block_count", "string", "2"),
        "must be an integer",
    ),
    "experts that are never used": (llama(expert_count=4), "0 does not fit 4 experts"),
    "as many groups as experts": (
        llama(expert_count=4, expert_used_count=2, expert_group_count=4),
        "4 does not divide",
    ),
    "groups that do not divide": (
        llama(expert_count=4, expert_used_count=2, expert_group_count=3),
        "3 does not divide",
    ),
    "groups without experts": (llama(expert_group_count=2), "2 does not divide 0 experts"),
    "no group used": (llama(expert_count=4, expert_used_count=2, expert_group_count=2), "0 does not fit 2 groups"),
    "more predicting layers than layers": (llama(nextn_predict_layers=3), "more than the layers"),
    "unknown scaling": (llama().key("llama.rope.scaling.type", "string", "magic"), "must be one of none, linear"),
    "a base that is no number": (llama().key("llama.rope.freq_base", "f32", float("nan")), "must be a finite number"),
    "an endless scale": (llama().key("llama.logit_scale", "f32", float("inf")), "must be a finite number"),
    "negative epsilon": (llama().key("llama.attention.layer_norm_rms_epsilon", "f32", -1e-5), "from 0 to 1"),
    "epsilon that is no number": (
        llama().key("llama.attention.layer_norm_epsilon", "f32", float("nan")),
        "from 0 to 1",
    ),
    "endless list of heads": (
        Maker().key("general.architecture", "string", "x").key("x.attention.head_count", "[i32]", [1] * 5000),
        "short list",
    ),
    "projector without heads": (
        Maker().key("general.architecture", "string", "clip").key("clip.vision.attention.head_count", "u32", 0),
        "from 1 to 1024",
    ),
}


@pytest.mark.parametrize(("maker", "reason"), [*HANDMADE.values()], ids=[*HANDMADE])
def test_handmade(tmp_path: Path, maker: Maker, reason: str) -> None:
    with pytest.raises(GGUFError, match=reason):
        read_header(maker.write(tmp_path))


@pytest.mark.parametrize(("maker", "reason"), [*MORE.values()], ids=[*MORE])
def test_structure(tmp_path: Path, maker: Maker, reason: str) -> None:
    with pytest.raises(GGUFError, match=reason):
        read_header(maker.write(tmp_path))


@pytest.mark.parametrize(("maker", "reason"), [*TOKENIZERS.values()], ids=[*TOKENIZERS])
def test_type_confusion(tmp_path: Path, maker: Maker, reason: str) -> None:
    with pytest.raises(GGUFError, match=reason):
        read_header(maker.write(tmp_path))


@pytest.mark.parametrize(("maker", "reason"), [*SETTINGS.values()], ids=[*SETTINGS])
def test_settings_that_would_break_arithmetic(tmp_path: Path, maker: Maker, reason: str) -> None:
    with pytest.raises(GGUFError, match=reason):
        read_header(maker.write(tmp_path))


def test_token_twice(tmp_path: Path) -> None:
    """The header alone is good; llama.cpp asserts on it."""
    tokens = "tokenizer.ggml.tokens"
    for good in (["a", "b", "", ""], ["\u00e9", "e"], ["a"] * 1):
        check_loadable(read_header(llama().key(tokens, "[string]", good).write(tmp_path)))
    check_loadable(read_header(Maker().write(tmp_path)))
    check_loadable(read_header(MODELS / "nano.gguf"))
    for bad in (["a", "b", "a"], ["a", "b", "a\0c"], ["", "[EMPTY_0]"], ["[EMPTY_1]", "\0"]):
        with pytest.raises(GGUFError, match="a token twice"):
            check_loadable(read_header(llama().key(tokens, "[string]", bad).write(tmp_path)))


@pytest.mark.parametrize("name", ["output_norm.weight", "blk.0.attn_q.bias"])
def test_types_that_cannot_be_added(tmp_path: Path, name: str) -> None:
    check_loadable(read_header(llama().tensor(name=name).write(tmp_path)))
    half = llama().tensor(name=name, shape=(64,), type=1)
    with pytest.raises(GGUFError, match=f"'{name}' must be F32, not F16"):
        check_loadable(read_header(half.write(tmp_path)))


def test_what_ends_the_process_at_the_first_text(tmp_path: Path) -> None:
    """llama.cpp loads it, and then finds no token for a byte, or no tokenizer."""
    spelt = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    for tokens in (spelt, [t for t in spelt if t != "<0x41>"] + ["A"]):
        maker = llama().key("tokenizer.ggml.model", "string", "llama").key("tokenizer.ggml.tokens", "[string]", tokens)
        check_loadable(read_header(maker.write(tmp_path)))
    maker = llama().key("tokenizer.ggml.model", "string", "llama").key("tokenizer.ggml.tokens", "[string]", spelt[:-9])
    with pytest.raises(GGUFError, match="no token for 9 of the 256 bytes"):
        check_loadable(read_header(maker.write(tmp_path)))
    with pytest.raises(GGUFError, match="no tokenizer"):
        check_loadable(read_header(llama().key("tokenizer.ggml.model", "string", "none").write(tmp_path)))


def test_oddities_that_real_files_have(tmp_path: Path) -> None:
    read_header(vocabulary("u32", "padding_token_id", 3).write(tmp_path))
    read_header(vocabulary("u32", "bos_token_id", 2**32 - 1).write(tmp_path))
    read_header(vocabulary("[i32]", "scores", [1, 2, 3]).write(tmp_path))
    read_header(llama(**{"attention.head_count": 5, "attention.key_length": 16}).write(tmp_path))
    mamba = Maker().key("general.architecture", "string", "mamba").key("mamba.attention.head_count", "u32", 0)
    read_header(mamba.write(tmp_path))


def test_endless_names_are_not_shown_whole(tmp_path: Path) -> None:
    with pytest.raises(GGUFError) as caught:
        read_header(Maker().key("k" * 60_000, "u8", 1).key("k" * 60_000, "u8", 1).write(tmp_path))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("size", [0, 3, 4, 8, 23])
def test_stumps(tmp_path: Path, size: int) -> None:
    path = tmp_path / "stump.gguf"
    path.write_bytes(Maker().bytes()[:size])
    with pytest.raises(GGUFError, match="not in GGUF format"):
        read_header(path)


def test_strings_of_one_header_are_bounded(tmp_path: Path) -> None:
    maker = Maker()
    for n in range(5):
        maker.key(f"k{n}", "string", "x" * (16 * 2**20 - 1))
    with pytest.raises(GGUFError, match="the strings of the metadata"):
        read_header(maker.write(tmp_path))


def read_all(path: Path) -> None:
    """Everything a caller may ask of a header."""
    header = read_header(path)
    check_loadable(header)
    for name in dir(header):
        if not name.startswith("_"):
            getattr(header, name)
    for content in header.metadata.values():
        if isinstance(content, GGUFArray):
            content.values()


GOOD = (MODELS / "nano-tools.gguf").read_bytes()[:14000]
TAIL = (MODELS / "nano-tools.gguf").stat().st_size - len(GOOD)
EDITS = st.tuples(
    st.integers(0, len(GOOD) - 1),
    st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\0\0\0\x80", b"\xff\xff\xff\x7f"]),
)


@settings(max_examples=200, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDITS, min_size=1, max_size=4), cut=st.none() | st.integers(0, len(GOOD)))
def test_mutations_raise_nothing_but_gguf_errors(
    tmp_path: Path, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    mutant = bytearray(GOOD)
    for at, new in edits:
        mutant[at : at + len(new)] = new
    path = tmp_path / "mutant.gguf"
    path.write_bytes(bytes(mutant[:cut]) + b"\0" * (TAIL if cut is None else 0))
    start = time.process_time()
    with contextlib.suppress(GGUFError):
        read_all(path)
    assert time.process_time() - start < 0.5
