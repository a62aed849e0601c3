"""BERT's family: vectors and scores are those of transformers, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from converters.errors import Unsupported
from converters.from_gguf import restore
from converters.progress import Progress
from converters.safetensors import read_header
from converters.to_gguf import convert
from converters.verify import check
from modelfiles import gguf

QUIET = Progress(silent=True)


def weights(folder: Path) -> dict[str, Any]:
    return {name: tensor.read() for name, tensor in read_header(folder / "model.safetensors").items()}


@pytest.mark.parametrize("case", tiny_models.ENCODERS)
def test_vectors_and_scores_are_the_same(case: str, tmp_path: Path) -> None:
    tiny_models.make_encoder(case, tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "f32.gguf", "F32", QUIET, gate=False)
    header = gguf.read_header(tmp_path / "f32.gguf")
    assert header.pooling == ("rank" if case.endswith("rank") else "mean")
    findings = check(tmp_path / "in", tmp_path / "f32.gguf")
    assert findings.failed == {}
    assert findings.numbers["tokens"] > 100
    if case.endswith("rank"):
        assert findings.numbers["score_difference"] < 5e-3
    else:
        assert findings.numbers["cosine"] > 0.999999


@pytest.mark.parametrize("case", tiny_models.ENCODERS)
def test_there_and_back(case: str, tmp_path: Path) -> None:
    tiny_models.make_encoder(case, tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "f32.gguf", "F32", QUIET, gate=False)
    restore(tmp_path / "f32.gguf", tmp_path / "back", QUIET, gate=False)
    before, after = weights(tmp_path / "in"), weights(tmp_path / "back")
    for name, array in after.items():
        original = before[name]
        rows = 2 if "roberta" in case and "position_embeddings" in name else 0  # never looked up, not carried
        assert np.array_equal(array[rows:], original[rows:]), name
    assert check(tmp_path / "back", tmp_path / "f32.gguf").failed == {}


@pytest.mark.parametrize(("said", "found"), [("cls", "cls"), ("mean_tokens", "mean"), ("lasttoken", "last")])
def test_pooling_is_what_sentence_transformers_was_told(said: str, found: str, tmp_path: Path) -> None:
    tiny_models.make_encoder("bert", tmp_path / "in")
    (tmp_path / "in/1_Pooling").mkdir()
    name = {"cls": "pooling_mode_cls_token"}.get(said, f"pooling_mode_{said}")
    flags = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False, name: True}
    (tmp_path / "in/1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 64, **flags}))
    convert(tmp_path / "in", tmp_path / "out.gguf", "F16", QUIET, gate=False)
    assert gguf.read_header(tmp_path / "out.gguf").pooling == found
    restore(tmp_path / "out.gguf", tmp_path / "back", QUIET, gate=False)
    back = json.loads((tmp_path / "back/1_Pooling/config.json").read_text())
    assert [key for key, value in back.items() if value is True] == [name]


def test_pooling_that_llama_cpp_does_not_have_is_named(tmp_path: Path) -> None:
    tiny_models.make_encoder("bert", tmp_path / "in")
    (tmp_path / "in/1_Pooling").mkdir()
    (tmp_path / "in/1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(Unsupported, match="pooling by pooling_mode_max_tokens is unknown"):
        convert(tmp_path / "in", tmp_path / "out.gguf", "F16", QUIET)


def test_a_classifier_of_several_labels_is_no_reranker(tmp_path: Path) -> None:
    tiny_models.make_encoder("bert-rank", tmp_path / "in")
    config = json.loads((tmp_path / "in/config.json").read_text())
    config["id2label"] = {"0": "no", "1": "yes"}
    (tmp_path / "in/config.json").write_text(json.dumps(config))
    with pytest.raises(Unsupported, match="this classifier has 2 labels"):
        convert(tmp_path / "in", tmp_path / "out.gguf", "F16", QUIET)
