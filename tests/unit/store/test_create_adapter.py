"""create with a PEFT folder among its files: the adapter of a model in one file, and of a model in parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from converters.safetensors import write
from server.store.library import Library

RANK = 2


@pytest.fixture
def adapter(library: Library, tmp_path: Path) -> dict[str, str]:
    """Uploaded: a LoRA on one matrix of the nano model, as peft saves it."""
    rng = np.random.default_rng(1)
    module = "base_model.model.model.layers.0.mlp.up_proj"
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((RANK, 64), (128, RANK)))
    weights, config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    write(weights, [(f"{module}.lora_A.weight", "F32", a), (f"{module}.lora_B.weight", "F32", b)])
    config.write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "target_modules": ["up_proj"]}))
    return {path.name: str(library.blobs.add_file(path)) for path in (weights, config)}


def in_two(source: Path, folder: Path) -> list[Path]:
    """The parts of the model as llama.cpp's tool would name them."""
    reader, paths = GGUFReader(source), []
    for number, tensors in enumerate((reader.tensors[:9], reader.tensors[9:])):
        path = folder / f"m-{number + 1:05d}-of-00002.gguf"
        writer = GGUFWriter(path, "llama")
        for f in reader.fields.values():
            if not f.name.startswith("GGUF.") and f.name != "general.architecture":
                writer.add_key_value(f.name, f.contents(), f.types[0], f.types[1] if len(f.types) > 1 else None)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths


def check(library: Library, status: int, events: list[dict[str, Any]]) -> None:
    lines = [event.get("status") or event["error"] for event in events]
    assert (status, lines[-1]) == (200, "success"), lines
    assert "converting adapter" in lines
    (path,) = library.resolve("tuned").adapters
    names = [tensor.name for tensor in GGUFReader(path).tensors]
    assert names == ["blk.0.ffn_up.weight.lora_a", "blk.0.ffn_up.weight.lora_b"]


def test_of_an_installed_model(library: Library, creating: Any, adapter: dict[str, str]) -> None:
    check(library, *creating(library, model="tuned", source="nano", adapters=adapter))


def test_of_a_model_in_parts(
    library: Library, creating: Any, adapter: dict[str, str], nano: Path, tmp_path: Path
) -> None:
    files = {path.name: str(library.blobs.add_file(path)) for path in in_two(nano, tmp_path)}
    check(library, *creating(library, model="tuned", files=files, adapters=adapter))


def test_of_another_model(library: Library, creating: Any, adapter: dict[str, str], tmp_path: Path) -> None:
    wrong = tmp_path / "adapter_model.safetensors"
    wrong.unlink()
    module = "base_model.model.model.layers.9.mlp.up_proj"
    shapes = (("A", (RANK, 64)), ("B", (128, RANK)))
    write(wrong, [(f"{module}.lora_{part}.weight", "F32", np.ones(shape, np.float32)) for part, shape in shapes])
    files = adapter | {wrong.name: str(library.blobs.add_file(wrong))}
    status, events = creating(library, model="tuned", source="nano", adapters=files)
    assert status == 400
    assert 'the adapter is for another model: this one has no tensor "blk.9.ffn_up.weight"' in events[-1]["error"]
