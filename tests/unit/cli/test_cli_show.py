from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_ollama import FakeServer

ANSWER: dict[str, Any] = {
    "license": "MIT License\n\nCopyright\nthird line",
    "modelfile": "FROM /blob",
    "parameters": 'stop                           "<|im_end|>"\ntemperature                    0',
    "template": "{{ .Prompt }}",
    "system": "Be kind.",
    "details": {"family": "llama", "parameter_size": "7.1M", "quantization_level": "Q8_0"},
    "model_info": {
        "general.architecture": "llama",
        "general.parameter_count": 7_100_000,
        "llama.context_length": 8192,
        "llama.embedding_length": 256,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.tokens": ["a", "b", "c", "d"],
    },
    "projector_info": {"general.architecture": "clip", "clip.vision.embedding_length": 1024},
    "tensors": [{"name": "output.weight", "type": "Q8_0", "shape": [256, 4096]}],
    "capabilities": ["completion", "tools"],
}


@pytest.fixture(autouse=True)
def answers(fake: FakeServer) -> None:
    fake.answers["POST /api/show"] = ANSWER


def test_the_blocks_of_ollama(llamada: Callable[..., Any]) -> None:
    assert llamada("show", "guide").out == (
        "  Model\n"
        "    architecture        llama\n"
        "    parameters          7.1M\n"
        "    context length      8192\n"
        "    embedding length    256\n"
        "    quantization        Q8_0\n"
        "\n"
        "  Weights\n"
        "    size       1.1 MB, 8.50 bits per weight\n"
        "    tensors    Q8_0 1\n"
        "\n"
        "  Capabilities\n"
        "    completion\n"
        "    tools\n"
        "\n"
        "  Projector\n"
        "    architecture        clip\n"
        "    embedding length    1024\n"
        "\n"
        "  Parameters\n"
        '    stop           "<|im_end|>"\n'
        "    temperature    0\n"
        "\n"
        "  System\n"
        "    Be kind.\n"
        "\n"
        "  License\n"
        "    MIT License\n"
        "    Copyright\n"
        "    ...\n"
        "\n"
    )


def test_verbose_adds_metadata_and_tensors(llamada: Callable[..., Any]) -> None:
    out = llamada("show", "-v", "guide").out
    assert "    tokenizer.ggml.tokens           [a, b, c, ...+1 more]\n" in out
    assert "    tokenizer.ggml.add_bos_token    false\n" in out
    assert "    output.weight    Q8_0    [256 4096]\n" in out


@pytest.mark.parametrize("part", ["license", "modelfile", "parameters", "system", "template"])
def test_one_part_is_printed_alone(llamada: Callable[..., Any], part: str) -> None:
    assert llamada("show", "guide", f"--{part}").out == f"{ANSWER[part]}\n"
    assert json.loads(llamada("show", "guide", f"--{part}", "--json").out) == {part: ANSWER[part]}


def test_two_parts_are_refused(llamada: Callable[..., Any]) -> None:
    assert llamada("show", "guide", "--system", "--license").err == (
        "Error: only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified\n"
    )


def test_a_model_larger_than_its_name_is_remarked_on(fake: FakeServer, llamada: Callable[..., Any]) -> None:
    tensors = [
        {"name": "blk.0.ffn_down.weight", "type": "Q5_0", "shape": [896, 64]},
        {"name": "blk.0.ffn_up.weight", "type": "Q4_K", "shape": [256, 896]},
        {"name": "blk.0.ffn_norm.weight", "type": "F32", "shape": [896]},
    ]
    details = {"family": "llama", "parameter_size": "1K", "quantization_level": "Q4_K_M"}
    fake.answers["POST /api/show"] = {**ANSWER, "details": details, "tensors": tensors}
    shown = llamada("show", "guide").out
    assert "    size       172 KB, 4.79 bits per weight\n    tensors    Q5_0 1, Q4_K 1, F32 1\n" in shown
    assert "    remark     1 of 3 tensors have rows of 896 values, no multiple of the 256 that Q4_K packs" in shown
    fake.answers["POST /api/show"] = {**ANSWER, "tensors": [{"name": "x", "type": "unheard of", "shape": [1]}]}
    assert "Weights" not in llamada("show", "guide").out
