"""Real Ollama's answers to create, show, copy and delete, field by field."""

from __future__ import annotations

import json

import pytest

from server.store import gojson
from server.store.library import Library

CREATES = ["create nano-bare", "create nano-embed", "create nano-tools", "create nano", "create nonstream",
           "create go", "create legacy go", "create fim", "create error: no model",
           "create error nonstream: bad name", "create error: bad template", "create error: abs path",
           "create error nonstream: abs path", "create error nonstream: not gguf",
           "create error: license number", "create quantize"]  # fmt: skip


def test_no_golden_create_is_left_out(replayed):
    assert sorted(replayed[1]) == sorted(CREATES)


@pytest.mark.parametrize("name", CREATES)
def test_create(golden, replayed, name):
    status, events = replayed[1][name]
    expected = golden[name]["answer"]
    if golden[name]["request"]["body"]["json"].get("stream") is False:
        events = events[-1:]
    assert [gojson.dumps(event) for event in events] == expected["body"].splitlines()
    assert status == expected["status"]


@pytest.mark.parametrize("name", ["show nano-legacy", "show nano-fim", "show verbose"])
def test_show(golden, replayed, name):
    root = replayed[0]
    request = golden[name]["request"]["body"]["json"]
    answer = Library(root).show(request["model"], verbose=request.get("verbose", False))
    text = gojson.dumps(answer).replace(str(root), "{MODELS}")
    expected = golden[name]["answer"]["body"]
    mine, real = json.loads(text), json.loads(expected)
    assert list(mine) == list(real)
    for key in real:
        if key != "modified_at":
            assert mine[key] == real[key], key
    assert text.partition('"modified_at"')[0] == expected.partition('"modified_at"')[0]


def test_tags(replayed):
    tags = {tag["name"]: tag for tag in Library(replayed[0]).tags()}
    assert list(tags) == ["nano-q8:latest", "nano-fim:latest", "nano-legacy:latest", "nano-go:latest",
                          "nano-ns:latest", "nano:latest", "nano-tools:latest", "nano-embed:latest",
                          "nano-bare:latest"]  # fmt: skip
    tag = tags["nano-go:latest"]
    assert list(tag) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
    assert tag["model"] == "nano-go:latest"
    assert tag["details"] == {
        "parent_model": "nano:latest", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "114K", "quantization_level": "F16", "context_length": 1024, "embedding_length": 64,
    }  # fmt: skip
    assert tag["capabilities"] == ["completion", "tools"]
    assert tags["nano-q8:latest"]["details"]["quantization_level"] == "Q8_0"
    assert tags["nano-embed:latest"]["capabilities"] == ["embedding"]
    assert tags["nano-tools:latest"]["capabilities"] == ["completion", "tools", "thinking"]
    manifest = (replayed[0] / "manifests/registry.ollama.ai/library/nano-go/latest").read_bytes()
    assert tag["size"] == sum(layer["size"] for layer in json.loads(manifest)["layers"]) + 148


def test_config_blob(replayed):
    root = replayed[0]
    manifest = json.loads((root / "manifests/registry.ollama.ai/library/nano/latest").read_bytes())
    config = (root / "blobs" / manifest["config"]["digest"].replace(":", "-")).read_text()
    assert config == (
        '{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"114K",'
        '"file_type":"F16","architecture":"amd64","os":"linux"}\n'
    )


def test_layer_order(replayed):
    root = replayed[0]
    manifest = json.loads((root / "manifests/registry.ollama.ai/library/nano-ns/latest").read_bytes())
    kinds = [layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]]
    assert kinds == ["model", "template", "system", "license", "license", "params", "messages"]
    messages = root / "blobs" / manifest["layers"][-1]["digest"].replace(":", "-")
    assert messages.read_text() == ('[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]\n')
