from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from modelfiles.gguf import read_header
from server.store import capabilities
from server.store.model_config import ModelConfig

TOOLS = "{{ range .Tools }}{{ . }}{{ end }}"


def header_of(path: Path, architecture: str = "llama", **numbers: int):
    writer = GGUFWriter(path, architecture)
    for name, value in numbers.items():
        writer.add_uint32(f"{architecture}.{name.replace('__', '.')}", value)
    writer.add_tensor("x", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_header(path)


@pytest.mark.parametrize(
    ("config", "numbers", "go", "expected"),
    [
        (ModelConfig(), {}, None, ("completion",)),
        (ModelConfig(), {"pooling_type": 1}, None, ("embedding",)),
        (ModelConfig(), {"vision__block_count": 2}, TOOLS, ("completion", "tools", "vision")),
        (ModelConfig(), {"audio__block_count": 2}, "{{ .Suffix }}", ("completion", "insert", "audio")),
        (ModelConfig(capabilities=("image",)), {}, None, ("image",)),
        (ModelConfig(capabilities=("zzz", "tools")), {}, None, ("tools", "zzz")),
        (ModelConfig(parser="harmony"), {}, None, ("completion", "tools", "thinking")),
        (ModelConfig(parser="bogus"), {}, None, ("completion",)),
        (ModelConfig(model_family="gptoss"), {}, None, ("completion", "thinking")),
        (ModelConfig(), {}, "{{ if", ("completion",)),
    ],
)
def test_what_a_model_can_do(tmp_path, config, numbers, go, expected):
    assert capabilities.of(config, header_of(tmp_path / "m.gguf", **numbers), [], go) == expected


def test_projectors(tmp_path):
    projector = header_of(tmp_path / "p.gguf", "clip")
    assert capabilities.of(ModelConfig(), header_of(tmp_path / "m.gguf"), [projector], None) == ("completion", "vision")
