from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeServer

from server.cli.errors import CliError
from server.cli.recipe import of_text, recipe
from server.store.blobs import Blobs
from server.store.digests import Digest

Run = Callable[..., Any]
WEIGHTS = b"GGUF and much more"
DIGEST = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "m.gguf").write_bytes(WEIGHTS)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def server(fake: FakeServer) -> FakeServer:
    """Of another store than ours: it has no blob until it is sent one."""
    sent: set[str] = set()

    def receive(body: bytes) -> tuple[int, dict[str, Any]]:
        sent.add(hashlib.sha256(body).hexdigest())
        return 201, {}

    fake.answers["HEAD /api/blobs/*"] = (404, {})
    fake.answers["POST /api/blobs/*"] = receive
    fake.answers["POST /api/create"] = [{"status": "writing manifest"}, {"status": "success"}]
    return fake


def created(fake: FakeServer) -> Any:
    return fake.bodies("POST /api/create")[-1]


# -- what is read ---------------------------------------------------------------------------------------


def test_every_instruction_becomes_a_field(folder: Path) -> None:
    (folder / "lora.gguf").write_bytes(b"GGUF")
    made = of_text(
        'FROM ./m.gguf\nADAPTER lora.gguf\nTEMPLATE """T"""\nSYSTEM S\nLICENSE L\nPARAMETER stop a\nPARAMETER stop b\n'
        "PARAMETER top_k 5\nMESSAGE user hi\nRENDERER r\nPARSER p\nREQUIRES 0.14.0\nPARAMETER mirostat 1\n",
        folder,
    )
    assert made.body == {
        "template": "T",
        "system": "S",
        "license": ["L"],
        "parameters": {"stop": ["a", "b"], "top_k": 5},
        "messages": [{"role": "user", "content": "hi"}],
        "renderer": "r",
        "parser": "p",
        "requires": "0.14.0",
    }
    assert (made.files, made.adapters) == ({"m.gguf": folder / "m.gguf"}, {"lora.gguf": folder / "lora.gguf"})
    assert len(made.warnings) == 1


def test_a_path_that_exists_wins_over_a_name(folder: Path) -> None:
    assert of_text("FROM m.gguf", folder).files
    assert of_text("FROM llama3.2:1b", folder).body == {"from": "llama3.2:1b"}
    (folder / "guide").mkdir()
    assert of_text("FROM guide", folder).body == {"from": "guide"}


def test_without_a_file_it_is_the_modelfile_or_the_models_of_this_folder(folder: Path) -> None:
    assert list(recipe(None, folder).files) == ["m.gguf"]
    (folder / "Modelfile").write_text("FROM x")
    assert recipe(None, folder).body == {"from": "x"}
    assert list(recipe("m.gguf", folder).files) == ["m.gguf"]
    assert recipe(str(folder), Path("/")).files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM ./no.gguf", "FROM ./no.gguf: no such file or folder"),
        ("FROM x\nADAPTER lora", "ADAPTER lora: no such file"),
        ("FROM x\nFROM y", 'there is "x" already'),
        ("SYSTEM s", "no FROM line"),
        ("FROM x\nBOGUS y", r"\(line 2\): command must be one of"),
        ("FROM ./m.gguf\nFROM sub/m.gguf", "two files are called m.gguf"),
        ("FROM ./checkpoint", "holds pickled weights, which can run code and are never read"),
        ("FROM ./empty", "no Modelfile, safetensors or GGUF files found"),
    ],
)
def test_what_cannot_be_read_is_said(folder: Path, text: str, message: str) -> None:
    for name in ("sub", "checkpoint", "empty"):
        (folder / name).mkdir()
    (folder / "sub/m.gguf").write_bytes(b"GGUF")
    (folder / "checkpoint/pytorch_model.bin").touch()
    with pytest.raises(CliError, match=message):
        of_text(text, folder)


# -- what is sent ---------------------------------------------------------------------------------------


def test_files_are_sent_and_then_named(server: FakeServer, folder: Path, llamada: Run) -> None:
    result = llamada("create", "mine", "-f", "m.gguf", "-q", "Q4_K_M")
    assert (result.status, result.out) == (0, "")
    assert server.bodies(f"POST /api/blobs/{DIGEST}") == [WEIGHTS]
    assert created(server) == {"model": "mine", "files": {"m.gguf": DIGEST}, "quantize": "Q4_K_M"}
    assert result.err.splitlines()[0] == "gathering model components"
    assert result.err.splitlines()[-1] == "success"


def test_how_to_quantize_is_passed_on(server: FakeServer, folder: Path, llamada: Run) -> None:
    (folder / "words.txt").write_bytes(WEIGHTS)
    flags = (
        "-q",
        "iq2_xxs",
        "--allow-requantize",
        "--tensor-type",
        ".*ffn_down.*=Q6_K",
        "--tensor-type",
        "output.*=F16",
    )
    assert llamada("create", "mine", "-f", "m.gguf", *flags, "--calibrate", "words.txt", "--keep-imatrix").status == 0
    assert created(server) == {
        "model": "mine",
        "files": {"m.gguf": DIGEST},
        "quantize": "iq2_xxs",
        "allow_requantize": True,
        "tensor_types": [".*ffn_down.*=Q6_K", "output.*=F16"],
        "calibration": {"words.txt": DIGEST},
        "keep_imatrix": True,
    }
    (folder / "sub").mkdir()
    (folder / "sub/words.txt").write_bytes(WEIGHTS)
    twice = llamada("create", "mine", "-f", "m.gguf", "--calibrate", "words.txt", "--calibrate", "sub/words.txt")
    assert (twice.status, "two files are called words.txt" in twice.err) == (1, True)


def test_what_the_server_has_is_not_sent_again(server: FakeServer, folder: Path, llamada: Run) -> None:
    server.answers[f"HEAD /api/blobs/{DIGEST}"] = {}
    assert llamada("create", "mine", "-f", "m.gguf").status == 0
    assert not server.bodies(f"POST /api/blobs/{DIGEST}")


def test_a_shared_store_gets_the_file_without_a_way_through_http(
    server: FakeServer, folder: Path, tmp_path: Path, llamada: Run
) -> None:
    blobs = Blobs(tmp_path / "models")
    kept, _ = blobs.add_bytes(b"another model")
    server.answers["HEAD /api/blobs/*"] = {}  # also of the few random bytes that were put there a moment ago
    assert llamada("create", "mine", "-f", "m.gguf").status == 0
    assert not [route for route, _ in server.requests if route.startswith("POST /api/blobs")]
    assert set(blobs.digests()) == {kept, Digest.parse(DIGEST)}


def test_the_store_of_another_server_is_left_alone(
    server: FakeServer, folder: Path, tmp_path: Path, llamada: Run
) -> None:
    blobs = Blobs(tmp_path / "models")
    kept, _ = blobs.add_bytes(b"another model")
    assert llamada("create", "mine", "-f", "m.gguf").status == 0
    assert set(blobs.digests()) == {kept}
    assert server.bodies(f"POST /api/blobs/{DIGEST}") == [WEIGHTS]


def test_json_is_a_line_per_event(server: FakeServer, folder: Path, llamada: Run) -> None:
    lines = llamada("create", "mine", "--json").out.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["writing manifest", "success"]


def test_what_the_server_refuses_is_an_error(server: FakeServer, folder: Path, llamada: Run) -> None:
    server.answers["POST /api/create"] = [{"status": "parsing GGUF"}, {"error": "unsupported architecture"}]
    result = llamada("create", "mine")
    assert (result.status, result.err.splitlines()[-1]) == (1, "Error: unsupported architecture")
    server.answers["POST /api/create"] = [{"status": "parsing GGUF"}]
    assert "ended before the model was made" in llamada("create", "mine").err
    assert "specified Modelfile wasn't found" in llamada("create", "mine", "-f", "nothing").err
