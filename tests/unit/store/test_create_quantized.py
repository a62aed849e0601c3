"""Quantization through create: importance matrices given, computed, kept and inherited; types of single tensors."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.gguf import imatrix_file
from modelfiles.gguf import read_header
from modelfiles.names import ModelName
from server.errors import InvalidRequest
from server.store.create import CreateRequest, check
from server.store.digests import Digest
from server.store.importance import IMATRIX_TYPE

DIGEST = f"sha256:{'0' * 64}"
WORDS = (Path(__file__).parents[3] / "docs/architecture.md").read_bytes()


def statuses(events) -> list[str]:
    return [event.get("status") or event["error"] for event in events]


def types_of(library, name: str) -> dict[str, str]:
    return {tensor.name: tensor.type for tensor in read_header(library.resolve(name).weights).tensors}


def layers_of(library, name: str) -> list[str]:
    return [layer.media_type for layer in library.find(ModelName.parse(name)).manifest.layers]


@pytest.fixture
def text(library) -> str:
    return str(library.blobs.add_bytes(WORDS)[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"imatrix": {"m": DIGEST}, "calibrate_self": True, "quantize": "Q4_0"}, "give one of imatrix, calibration"),
        ({"imatrix": {"m": DIGEST, "n": DIGEST}, "quantize": "Q4_0"}, "only one importance matrix"),
        ({"imatrix": {"m": "x"}, "quantize": "Q4_0"}, "invalid digest"),
        ({"calibration": {"../m": DIGEST}, "quantize": "Q4_0"}, "must be relative"),
        ({"calibrate_self": True}, "is for a quantized type"),
        ({"calibrate_self": True, "quantize": "f16"}, "is for a quantized type"),
        ({"keep_imatrix": True, "quantize": "Q4_0"}, "give one"),
        ({"tensor_types": (".*=Q8_0",)}, "tensor_types needs quantize"),
        ({"tensor_types": ("Q8_0",), "quantize": "Q4_0"}, "must be PATTERN=TYPE"),
        ({"allow_requantize": True}, "allow_requantize needs quantize"),
    ],
)
def test_what_does_not_go_together(fields, message):
    with pytest.raises(InvalidRequest, match=message) as error:
        check(CreateRequest("m", source="nano", **fields))
    assert error.value.status == 400


def test_calibrated_and_kept_and_used_again(library, creating, text):
    status, events = creating(library, model="base", source="nano", calibration={"map": text}, keep_imatrix=True)
    assert status == 200
    assert "computing the importance matrix" in statuses(events)
    assert layers_of(library, "base").count(IMATRIX_TYPE) == 1
    assert library.resolve("base").weights == library.resolve("nano").weights
    (layer,) = library.find(ModelName.parse("base")).manifest.of_kind(IMATRIX_TYPE)
    matrix = imatrix_file.read(library.blobs.path(layer.digest))
    assert matrix.datasets == ("map",)
    assert matrix.entries["blk.1.ffn_down.weight"].sums.shape == (1, 128)

    status, events = creating(library, model="small", source="base", quantize="iq3_xxs")
    assert status == 200
    assert not any(s.startswith("computing") for s in statuses(events))
    header = read_header(library.resolve("small").weights)
    assert (header.file_type, header.metadata["quantize.imatrix.dataset"]) == ("IQ3_XXS", "map")
    assert layers_of(library, "small").count(IMATRIX_TYPE) == 1


def test_computed_from_its_own_words_and_gone_afterwards(library, creating):
    before = set(library.blobs.digests())
    status, events = creating(library, model="q", source="nano", quantize="IQ3_XXS", calibrate_self=True)
    assert status == 200
    progress = [e for e in events if e.get("status") == "computing the importance matrix"]
    assert progress[-1]["completed"] == progress[-1]["total"]
    assert IMATRIX_TYPE not in layers_of(library, "q")
    record = library.find(ModelName.parse("q"))
    assert set(library.blobs.digests()) - before == set(record.manifest.blobs()) - before
    assert not list(library.blobs.incoming.iterdir())


def test_a_given_matrix_of_either_form(library, creating, text):
    creating(library, model="base", source="nano", calibration={"map": text}, keep_imatrix=True)
    (layer,) = library.find(ModelName.parse("base")).manifest.of_kind(IMATRIX_TYPE)
    given = {"imatrix.gguf": str(layer.digest)}
    assert creating(library, model="q", source="nano", quantize="IQ3_XXS", imatrix=given)[0] == 200
    status, events = creating(library, model="q2", source="nano", quantize="IQ3_XXS", imatrix={"text": text})
    assert status == 400
    assert "importance matrix" in events[-1]["error"]
    status, events = creating(library, model="q2", source="nano", quantize="IQ3_XXS", imatrix={"gone": DIGEST})
    assert (status, statuses(events)[-1]) == (500, f"gone: blob {Digest.parse(DIGEST)} is missing; upload it first")


def test_without_a_matrix_it_is_said_what_to_do(library, creating):
    status, events = creating(library, model="q", source="nano", quantize="IQ3_XXS")
    assert status == 400
    assert "IQ3_XXS needs an importance matrix" in events[-1]["error"]
    assert "calibrate_self" in events[-1]["error"]
    short = str(library.blobs.add_bytes(b"too short")[0])
    status, events = creating(library, model="q", source="nano", quantize="IQ3_XXS", calibration={"t": short})
    assert status == 400
    assert "at least 256 are needed" in events[-1]["error"]


def test_types_of_single_tensors_in_their_order(library, creating):
    wanted = [r"blk\.0\.ffn_down\.weight=Q5_1", r".*\.ffn_down\.weight=Q8_0"]
    assert creating(library, model="q", source="nano", quantize="Q4_0", tensor_types=wanted)[0] == 200
    types = types_of(library, "q")
    assert (types["blk.0.ffn_down.weight"], types["blk.1.ffn_down.weight"]) == ("Q5_1", "Q8_0")
    again = creating(library, model="r", source="q", quantize="Q4_0", tensor_types=[".*=Q8_0"], allow_requantize=True)
    assert again[0] == 200
    assert set(types_of(library, "r").values()) == {"F32", "Q8_0"}
    status, events = creating(library, model="q", source="nano", quantize="Q4_0", tensor_types=["nothing=Q8_0"])
    assert status == 400
    assert "matches no tensor" in events[-1]["error"]
