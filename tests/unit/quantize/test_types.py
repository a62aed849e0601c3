from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_gguf as tiny
from gguf import GGUFReader, dequantize

from converters.errors import UnsupportedType
from converters.gguf import imatrix
from converters.gguf.quantize import Settings, quantize
from modelfiles.errors import QuantizationError
from modelfiles.gguf import read_header
from modelfiles.quantization import FEW_VALUES, FILE_NUMBERS, NEEDS_IMATRIX, PLAIN, assign, main_type, parse_rules

EVERYDAY = sorted(FILE_NUMBERS.keys() - NEEDS_IMATRIX - FEW_VALUES - {"MXFP4"})


def nothing(done: int, total: int) -> None:
    pass


def types_of(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.type for tensor in read_header(path).tensors}


@pytest.fixture(scope="module")
def matrix(dense, text):
    return imatrix.compute(dense, [text], nothing, chunk=128, chunks=4, threads=1)


@pytest.mark.parametrize("name", EVERYDAY)
def test_every_type_that_needs_no_help(dense, tmp_path, name):
    told: list[str] = []
    quantize(dense, tmp_path / "out", name.lower(), nothing, Settings(threads=1, warn=told.append))
    assert read_header(tmp_path / "out").file_type == name
    assert main_type(name) in types_of(tmp_path / "out").values()
    assert not told


SEARCHED_FOR_LONG = {"IQ1_M", "IQ2_M", "IQ2_S"}  # llama.cpp builds their grids for some seconds


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SEARCHED_FOR_LONG)) for n in sorted(NEEDS_IMATRIX)]
)
def test_types_that_need_an_importance_matrix(dense, matrix, tmp_path, name):
    with pytest.raises(UnsupportedType, match=rf"^{name} needs an importance matrix.*calibrate_self"):
        quantize(dense, tmp_path / "out", name, nothing, Settings(threads=1))
    quantize(dense, tmp_path / "out", name, nothing, Settings(imatrix=matrix, threads=1))
    header = read_header(tmp_path / "out")
    assert header.file_type == name
    assert header.metadata["quantize.imatrix.dataset"] == "text.txt"
    assert header.metadata["quantize.imatrix.entries_count"] == len(matrix.entries)
    assert header.metadata["quantize.imatrix.chunks_count"] == 4


def test_llama_cpp_itself_refuses_what_the_table_says(dense, tmp_path, monkeypatch):
    """The table is not stricter than llama.cpp."""
    monkeypatch.setattr("converters.gguf.quantize.NEEDS_IMATRIX", frozenset())
    for name in sorted(NEEDS_IMATRIX):
        with pytest.raises(Exception, match=r"requires an imatrix|Missing importance matrix"):
            quantize(dense, tmp_path / "out", name, nothing, Settings(threads=1))


def test_importance_makes_important_columns_better(tmp_path, dense, matrix):
    """The error weighted by importance is less with the matrix than without it."""
    source = {t.name: np.array(t.data) for t in GGUFReader(dense).tensors}
    errors = []
    for name, used in (("without", None), ("with", matrix)):
        quantize(dense, tmp_path / name, "Q4_K_S", nothing, Settings(imatrix=used, threads=1))
        found = {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(tmp_path / name).tensors}
        at = "blk.1.ffn_down.weight"
        weight = matrix.entries[at].means()
        errors.append(float((((found[at] - source[at]) ** 2) * weight).sum()))
    assert errors[1] < errors[0]


def test_a_matrix_of_another_model_is_refused(dense, matrix, tmp_path):
    other = tiny.write_model(tmp_path / "other.gguf", tiny.Shape(width=512))
    with pytest.raises(Exception, match="imatrix size 256 is different from tensor size 512"):
        quantize(other, tmp_path / "out", "Q4_K_M", nothing, Settings(imatrix=matrix, threads=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.gguf"]
    stranger = imatrix.ImportanceMatrix({"else.weight": next(iter(matrix.entries.values()))})
    with pytest.raises(UnsupportedType, match="of another model"):
        quantize(dense, tmp_path / "out", "Q4_K_M", nothing, Settings(imatrix=stranger))


# -- models that a type is not for --------------------------------------------------------------------------


def few_valued(vocabulary: int) -> dict[str, np.ndarray]:
    tensors = tiny.random_tensors(tiny.Shape(), vocabulary)
    linear = {n: d for n, d in tensors.items() if n.startswith("blk.") and d.ndim == 2}
    return tensors | {name: 0.05 * np.sign(data) * (np.abs(data) > 0.04) for name, data in linear.items()}


@pytest.mark.parametrize("name", sorted(FEW_VALUES))
def test_ternary_types_are_for_models_trained_so(dense, tmp_path, vocabulary, name):
    with pytest.raises(UnsupportedType, match=rf"^{name} keeps one magnitude per block"):
        quantize(dense, tmp_path / "out", name, nothing)
    tensors = {n: d.astype(np.float32) for n, d in few_valued(vocabulary).items()}
    trained = tiny.write_model(tmp_path / "ternary.gguf", tiny.Shape(), tensors)
    quantize(trained, tmp_path / "out", name, nothing, Settings(threads=1))
    assert name in types_of(tmp_path / "out").values()
    if name.startswith("TQ"):
        back = {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(tmp_path / "out").tensors}
        np.testing.assert_allclose(back["blk.1.ffn_up.weight"], tensors["blk.1.ffn_up.weight"], atol=1e-4)


def test_mxfp4_is_for_experts(dense, mixture, tmp_path):
    with pytest.raises(UnsupportedType, match="mixtures of experts"):
        quantize(dense, tmp_path / "out", "mxfp4", nothing)
    quantize(mixture, tmp_path / "out", "MXFP4_MOE", nothing, Settings(threads=1))
    types = types_of(tmp_path / "out")
    assert {types[f"blk.1.ffn_{n}_exps.weight"] for n in ("up", "down", "gate")} == {"MXFP4"}


def test_quantized_sources_only_when_told(dense, tmp_path):
    quantize(dense, tmp_path / "q8", "Q8_0", nothing, Settings(threads=1))
    with pytest.raises(UnsupportedType, match="allow_requantize"):
        quantize(tmp_path / "q8", tmp_path / "q4", "Q4_K_M", nothing)
    quantize(tmp_path / "q8", tmp_path / "q4", "Q4_K_M", nothing, Settings(allow_requantize=True, threads=1))
    header = read_header(tmp_path / "q4")
    assert header.file_type == "Q4_K_M"
    assert header.metadata["llamada.requantized_from"] == "Q8_0"


# -- rows that do not fit -----------------------------------------------------------------------------------


def test_rows_that_a_type_cannot_hold_are_told_of(tmp_path):
    told: list[str] = []
    odd = tiny.write_model(tmp_path / "odd.gguf", tiny.Shape(ffn=320))
    quantize(odd, tmp_path / "out", "Q4_K_S", nothing, Settings(threads=1, warn=told.append))
    assert types_of(tmp_path / "out")["blk.1.ffn_down.weight"] == "Q5_0"
    assert told == [
        "2 of 21 tensors have rows of 320 values, no multiple of the 256 that Q4_K packs together; "
        "they are stored as Q5_0 (2), so the model is larger than Q4_K_S suggests"
    ]


def test_the_output_matrix_too(tmp_path):
    """llama.cpp stores it as Q8_0 without a word."""
    told: list[str] = []
    quantize(tiny.NANO, tmp_path / "out", "Q6_K", nothing, Settings(threads=1, warn=told.append))
    assert told[0].startswith("15 of 20 tensors have rows of 64 or 128 values")
    assert types_of(tmp_path / "out")["token_embd.weight"] == "Q8_0"


# -- types of single tensors --------------------------------------------------------------------------------


def rules(*texts: str) -> Settings:
    return Settings(rules=parse_rules(texts), threads=1)


def test_the_first_rule_that_matches_the_whole_name_counts(dense, tmp_path):
    wanted = rules(r"blk\.1\.ffn_down\.weight=f16", r".*ffn_down.*=q6_k", "output.weight=Q5_K", r"token_embd.*=iq4_nl")
    quantize(dense, tmp_path / "out", "Q4_0", nothing, wanted)
    types = types_of(tmp_path / "out")
    assert (types["blk.0.ffn_down.weight"], types["blk.1.ffn_down.weight"]) == ("Q6_K", "F16")
    assert (types["output.weight"], types["token_embd.weight"]) == ("Q5_K", "IQ4_NL")
    assert types["blk.0.ffn_up.weight"] == "Q4_0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ffn_down=Q6_K", "matches no tensor"),
        (".*_norm.*=Q8_0", "never quantizes the tensors"),
        (r"blk\.0\.ffn_up\.weight=IQ2_XS", "needs an importance matrix"),
    ],
)
def test_rules_that_cannot_be_followed(dense, tmp_path, text, message):
    with pytest.raises(UnsupportedType, match=message):
        quantize(dense, tmp_path / "out", "Q4_0", nothing, rules(text))


def test_rules_and_rows_and_plain_types(dense, tmp_path):
    odd = tiny.write_model(tmp_path / "odd.gguf", tiny.Shape(ffn=320))
    with pytest.raises(UnsupportedType, match=r"rows of 320 values, which Q6_K packs in blocks of 256"):
        quantize(odd, tmp_path / "out", "Q4_0", nothing, rules(".*ffn_down.*=Q6_K"))
    for plain in PLAIN:
        with pytest.raises(UnsupportedType, match="need a quantized type for the rest"):
            quantize(dense, tmp_path / "out", plain, nothing, rules(".*=Q6_K"))
    with pytest.raises(UnsupportedType, match="only such as an earlier one matches"):
        quantize(dense, tmp_path / "out", "Q4_0", nothing, rules(".*=Q6_K", ".*ffn_up.*=Q8_0"))


def test_pairs_are_parsed():
    (one, two) = parse_rules(["a=b.weight=q8_0", r"blk\.\d+\.x = IQ3_S"])
    assert (one.pattern.pattern, one.type, two.type) == ("a=b.weight", "Q8_0", "IQ3_S")
    assert assign([one, two], ["a=b.weight", "other"]) == {"a=b.weight": one}
    for text in ("Q8_0", "=Q8_0", "x=Q9", "x=I8", "x=Q8_K", "x=NVFP4", "(=Q8_0", "x" * 300 + "=Q8_0"):
        with pytest.raises(QuantizationError):
            parse_rules([text])
