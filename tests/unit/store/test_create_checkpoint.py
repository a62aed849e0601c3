"""create from the files of a checkpoint: converted and verified in a child process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from modelfiles.names import ModelName
from server.cli.recipe import of_text
from server.store.library import Library


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoint")
    tiny_models.make("qwen3", made)
    return made


def uploaded(library: Library, folder: Path) -> dict[str, str]:
    return {name: str(library.blobs.add_file(path)) for name, path in of_text("FROM .", folder).files.items()}


def test_a_checkpoint_becomes_a_model(library: Library, creating: Any, folder: Path) -> None:
    files = uploaded(library, folder)
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= set(files)
    status, events = creating(library, model="mine", files=files, quantize="f32")
    lines = [event["status"] for event in events]
    assert (status, list(dict.fromkeys(lines))[:2]) == (200, ["converting model", "verifying conversion"])
    assert lines[-2:] == ["writing manifest", "success"]
    assert any(line.startswith("verified: it loads; ") and "KL divergence" in line for line in lines)
    assert any(line.startswith("using autodetected template chatml") for line in lines)
    record = library.find(ModelName.parse("mine"))
    assert record is not None
    (layer,) = [layer for layer in record.manifest.layers if layer.kind == "model"]
    header = library.header(layer.digest)
    assert (header.architecture, header.file_type) == ("qwen3", "F32")
    assert json.loads(header.text("llamada.verification") or "")["verified"]
    assert record.config.file_type == "F32"


def test_the_default_is_f16_and_types_have_any_case(library: Library, creating: Any, folder: Path) -> None:
    files = uploaded(library, folder)
    assert creating(library, model="half", files=files)[0] == 200
    assert creating(library, model="small", files=files, quantize="q8_0")[0] == 200
    kinds = [library.find(ModelName.parse(name)).config.file_type for name in ("half", "small")]
    assert kinds == ["F16", "Q8_0"]
    status, events = creating(library, model="none", files=files, quantize="q9")
    assert (status, events[-1]["error"][:34]) == (500, "unsupported quantization type Q9 -")


def test_what_is_wrong_with_it_is_said_and_nothing_kept(library: Library, creating: Any, folder: Path) -> None:
    files = uploaded(library, folder)
    del files["tokenizer.json"]
    before = set(library.blobs.digests())
    status, events = creating(library, model="mine", files=files)
    assert status == 400
    assert "has no tokenizer.json and no tokenizer.model" in events[-1]["error"]
    assert library.find(ModelName.parse("mine")) is None
    assert set(library.blobs.digests()) == before
    assert not list(library.blobs.incoming.iterdir())


def test_a_file_that_was_not_sent_is_named(library: Library, creating: Any, folder: Path) -> None:
    files = uploaded(library, folder) | {"config.json": "sha256:" + "0" * 64}
    assert creating(library, model="mine", files=files) == (
        500, [{"error": "the file config.json was not uploaded; send its blob first"}]
    )  # fmt: skip


def test_pickles_are_refused(library: Library, creating: Any, folder: Path) -> None:
    digest, _ = library.blobs.add_bytes(b"\x80\x04pickle")
    config = str(library.blobs.add_file(folder / "config.json"))
    files = {"pytorch_model.bin": str(digest), "config.json": config}
    status, events = creating(library, model="mine", files=files)
    assert status == 400
    assert "pickled weights, which can run code and are never read" in events[-1]["error"]


def test_links_that_lead_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    from server.cli.errors import CliError

    (tmp_path / "in").mkdir()
    (tmp_path / "in/model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(CliError, match=r"insecure path: model\.safetensors is a link"):
        of_text("FROM .", tmp_path / "in")


def test_links_within_the_hub_cache_are(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--me--mine"
    (cache / "snapshots/abc").mkdir(parents=True)
    (cache / "blobs").mkdir()
    for path in folder.iterdir():
        (cache / "blobs" / path.name).write_bytes(path.read_bytes())
        (cache / "snapshots/abc" / path.name).symlink_to(Path("../../blobs") / path.name)
    assert "model.safetensors" in of_text("FROM .", cache / "snapshots/abc").files
