from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest

from modelfiles.names import ModelName
from server.errors import InvalidRequest, ModelNotFound, ServerError, StoreError
from server.options import OptionError
from server.store import fsck
from server.store.library import Library
from server.types import Message


def manifest_of(library: Library, name: str) -> Path:
    return library.manifests.path(ModelName.parse(name))


# -- resolve ------------------------------------------------------------------------------------------------


def test_resolve_tells_all_that_a_load_needs(library):
    spec = library.resolve("nano-ns")
    assert (spec.name, spec.full_name) == ("nano-ns:latest", "registry.ollama.ai/library/nano-ns:latest")
    assert spec.weights == library.root / "blobs" / f"sha256-{spec.weights_digest}"
    assert spec.weights.is_file()
    assert spec.system == "You are brief."
    assert spec.messages == (Message("user", "hi"), Message("assistant", "hello"))
    assert spec.parameters == {"num_predict": 8, "stop": ("END", "FIN"), "temperature": 0.0}
    assert spec.template is not None
    assert spec.template.startswith("{{- range .Messages }}")
    assert spec.chat_template is not None
    assert spec.chat_template.startswith("{% for m in messages %}")
    assert (spec.family, spec.parameter_size, spec.quantization) == ("llama", "114K", "F16")
    assert (spec.context_length, spec.embedding_length, spec.parent) == (1024, 64, "nano:latest")
    assert spec.digest == library.tags()[4]["digest"]


def test_a_model_without_go_template_speaks_jinja(library):
    spec = library.resolve("nano-tools")
    assert spec.template is None
    assert spec.chat_template
    assert library.resolve("nano-bare").chat_template is None
    assert spec.capabilities == {"completion", "tools", "thinking"}


@pytest.mark.parametrize("name", ["NANO", "nano:LATEST", "library/nano", "registry.ollama.ai/library/Nano:latest"])
def test_names_are_one_in_any_case_and_length(library, name):
    assert library.resolve(name) == library.resolve("nano")


@pytest.mark.parametrize("name", ["nope", "nope:latest", "NANO:v2", "x/nano"])
def test_unknown_names_are_told_as_they_were_asked(library, name):
    with pytest.raises(ModelNotFound) as error:
        library.resolve(name)
    assert error.value.message == f"model '{name}' not found"
    assert error.value.status == 404


@pytest.mark.parametrize("name", ["", "a b", "../x", "..", "a/../b", "C:\\x", "nano:", "/etc/passwd", "x" * 81, "é"])
def test_invalid_names(library, name):
    with pytest.raises(InvalidRequest) as error:
        library.resolve(name)
    assert (error.value.message, error.value.status) == ("invalid model name", 400)


def test_the_hot_path_is_fast(library):
    library.resolve("nano")
    times = []
    for _ in range(200):
        started = time.perf_counter()
        library.resolve("nano")
        times.append(time.perf_counter() - started)
    assert sorted(times)[100] < 50e-6


def test_a_changed_manifest_is_seen_at_once(library, creating):
    assert library.resolve("nano").system == ""
    creating(library, model="nano", source="nano", system="New.")
    assert library.resolve("nano").system == "New."
    library.delete("nano")
    with pytest.raises(ModelNotFound):
        library.resolve("nano")


def test_missing_and_damaged_weights_say_so_without_paths(library):
    weights = library.resolve("nano-embed").weights
    data = weights.read_bytes()
    weights.unlink()
    fresh = Library(library.root)
    with pytest.raises(StoreError, match=r"is missing; create or pull the model again"):
        fresh.resolve("nano-embed")
    assert fresh.resolve("nano").name == "nano:latest"
    weights.write_bytes(data[:1000])
    with pytest.raises(StoreError, match=r"^model file is corrupt: ") as error:
        fresh.resolve("nano-embed")
    assert str(library.root) not in error.value.message
    weights.write_bytes(data)
    assert fresh.resolve("nano-embed").name == "nano-embed:latest"


def test_a_damaged_model_says_which_it_is_and_what_to_do(library):
    manifest_of(library, "nano-q8").write_bytes(b"")
    for ask in (library.resolve, library.show):
        with pytest.raises(StoreError, match=r"^model 'nano-q8:latest' is damaged: manifest is not JSON; pull or .*rm"):
            ask("nano-q8")


def test_parameters_of_a_wrong_type_fail_at_use_only(library, creating):
    assert creating(library, model="odd", source="nano", parameters={"temperature": "hot"})[0] == 200
    with pytest.raises(OptionError, match='option "temperature" must be of type float32'):
        library.resolve("odd")
    assert library.show("odd")["parameters"].startswith("stop ")
    assert "odd:latest" in [tag["name"] for tag in library.tags()]


def test_remote_and_tensor_models_are_listed_but_not_run(library):
    for name, config in (
        ("far", {"remote_host": "https://ollama.com:443", "remote_model": "gpt-oss:120b", "capabilities": ["tools"],
                 "model_family": "gptoss", "context_length": 131072, "embedding_length": 2880}),
        ("mlx", {"model_format": "safetensors", "capabilities": ["completion"]}),
    ):  # fmt: skip
        digest, _ = library.blobs.add_bytes(json.dumps(config).encode())
        size = library.blobs.size(digest)
        raw = {"config": {"mediaType": "x", "digest": str(digest), "size": size}, "layers": []}
        library.manifests.write_bytes(ModelName.parse(name), json.dumps(raw).encode())
    tags = {tag["name"]: tag for tag in library.tags()}
    far = tags["far:latest"]
    assert list(far)[:4] == ["name", "model", "remote_model", "remote_host"]
    assert far["details"]["context_length"] == 131072
    assert far["capabilities"] == ["tools", "thinking"]
    assert tags["mlx:latest"]["capabilities"] == ["completion"]
    with pytest.raises(InvalidRequest, match="cannot run this remote model"):
        library.resolve("far")
    with pytest.raises(InvalidRequest, match="tensor layers"):
        library.resolve("mlx")
    assert library.show("far")["model_info"]["gptoss.context_length"] == 131072


def test_a_pulled_template_that_does_not_parse_hides_nothing(library):
    record = library.find(ModelName.parse("nano"))
    digest, _ = library.blobs.add_bytes(b"{{ if .X")
    layers = tuple(
        dataclasses.replace(layer, digest=digest, size=8) if layer.kind == "template" else layer
        for layer in record.manifest.layers
    )
    library.write(ModelName.parse("broken"), record.manifest.config, layers)
    assert library.resolve("broken").template == "{{ if .X"
    assert library.show("broken")["capabilities"] == ["completion"]


def test_the_environment_may_prefer_one_kind_of_template(library):
    assert Library(library.root, go_template=False).resolve("nano").template is None
    assert Library(library.root, go_template=True).resolve("nano-tools").template is None


# -- list ---------------------------------------------------------------------------------------------------


def test_an_empty_or_absent_store_lists_nothing(tmp_path):
    assert Library(tmp_path / "none").tags() == []
    assert not (tmp_path / "none").exists()


def test_one_bad_record_never_blocks_the_list(library, caplog):
    manifest_of(library, "nano-fim").write_bytes(b"")
    manifest_of(library, "nano-legacy").write_bytes(b"{" * 5000)
    go = json.loads(manifest_of(library, "nano-go").read_bytes())
    go["config"]["digest"] = str(library.blobs.add_bytes(b"[]")[0])
    manifest_of(library, "nano-go").write_text(json.dumps(go))
    names = [tag["name"] for tag in library.tags()]
    assert len(names) == 6
    assert not {"nano-fim:latest", "nano-legacy:latest", "nano-go:latest"} & set(names)
    library.tags()
    assert sum("is not listed" in record.message for record in caplog.records) == 3


def test_newest_first(library):
    past = time.time() - 1000
    os.utime(manifest_of(library, "nano-q8"), (past, past))
    assert library.tags()[-1]["name"] == "nano-q8:latest"


# -- show ---------------------------------------------------------------------------------------------------


def test_show_overlays_what_the_request_says(library):
    answer = library.show("nano-ns", system="Overlaid.", options={"temperature": 0.25, "seed": 3})
    assert list(answer)[:5] == ["license", "modelfile", "parameters", "template", "system"]
    assert answer["license"] == "MIT\nfree text"
    assert answer["system"] == "Overlaid."
    assert answer["parameters"].splitlines() == [  # the model's own: only the Modelfile has the request's
        "num_predict                    8",
        'stop                           "END"',
        'stop                           "FIN"',
        "temperature                    0",
    ]
    assert "PARAMETER seed 3\n" in answer["modelfile"]
    assert "PARAMETER temperature 0.25\n" in answer["modelfile"]
    tail = answer["modelfile"].partition("SYSTEM ")[2].splitlines()
    assert tail == [
        "Overlaid.", "PARAMETER num_predict 8", "PARAMETER seed 3", "PARAMETER stop END", "PARAMETER stop FIN",
        "PARAMETER temperature 0.25", "LICENSE MIT", "LICENSE free text", "MESSAGE user hi",
        "MESSAGE assistant hello",
    ]  # fmt: skip
    assert answer["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert library.show("nano-ns")["system"] == "You are brief."


def test_show_errors(library):
    with pytest.raises(ModelNotFound, match=r"^model 'nope:latest' not found$"):
        library.show("nope")
    with pytest.raises(InvalidRequest, match=r"^model is required$"):
        library.show("")
    with pytest.raises(InvalidRequest, match=r"^invalid model name$"):
        library.show("a b")


# -- copy and delete ----------------------------------------------------------------------------------------


def test_copy_is_the_same_model_byte_for_byte(library):
    library.copy("nano", "ns/nano2:v1")
    assert manifest_of(library, "ns/nano2:v1").read_bytes() == manifest_of(library, "nano").read_bytes()
    assert library.resolve("ns/nano2:v1").digest == library.resolve("nano").digest
    library.delete("ns/nano2:v1")
    assert library.resolve("nano").weights.is_file()
    assert not (library.root / "manifests/registry.ollama.ai/ns").exists()


def test_copy_over_a_model_removes_what_only_that_one_needed(library):
    weights = library.resolve("nano-q8").weights
    library.copy("nano", "NANO-Q8")
    assert library.resolve("nano-q8").digest == library.resolve("nano").digest
    assert not weights.exists()
    assert not (library.root / "manifests/registry.ollama.ai/library/NANO-Q8").exists()


def test_copy_onto_itself_changes_nothing(library):
    before = manifest_of(library, "nano").stat().st_mtime_ns
    library.copy("nano", "NANO:latest")
    assert manifest_of(library, "nano").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("source", "destination", "text", "status"),
    [
        ("nope", "x", 'model "nope" not found', 404),
        ("", "x", 'source "" is invalid', 400),
        ("nano", "a b", 'destination "a b" is invalid', 400),
        ("nano", "", 'destination "" is invalid', 400),
    ],
)
def test_copy_errors(library, source, destination, text, status):
    with pytest.raises(ServerError) as error:
        library.copy(source, destination)
    assert (error.value.message, error.value.status) == (text, status)


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [("nope", "model 'nope' not found", 404), ("a b", 'name "a b" is invalid', 400), ("", "model is required", 400)],
)
def test_delete_errors(library, name, text, status):
    with pytest.raises(ServerError) as error:
        library.delete(name)
    assert (error.value.message, error.value.status) == (text, status)


def test_delete_takes_unshared_blobs_only(library):
    shared = library.resolve("nano").weights
    for name in ("nano", "nano-ns"):
        library.delete(name)
    assert shared.exists()  # nano-go has it still
    library.delete("nano-go")
    assert not shared.exists()


def test_a_bad_manifest_can_be_deleted_and_keeps_blobs_safe(library, caplog):
    weights = library.resolve("nano-q8").weights
    manifest_of(library, "nano-fim").write_bytes(b"")
    library.delete("nano-q8")
    assert weights.exists()  # nobody knows what nano-fim needs
    library.delete("nano-fim")
    assert "nano-fim:latest" not in [tag["name"] for tag in library.tags()]
    assert "fsck" in caplog.text


def test_blobs_of_a_loaded_worker_stay_until_it_is_gone(library):
    weights = library.resolve("nano-q8").weights
    loaded = {weights}
    busy = Library(library.root, keep=lambda digest: library.blobs.path(digest) in loaded)
    busy.delete("nano-q8")
    with pytest.raises(ModelNotFound):
        busy.resolve("nano-q8")
    assert weights.exists()
    busy.release()
    assert weights.exists()
    loaded.clear()
    busy.release()
    assert not weights.exists()


def test_noprune_keeps_everything(library):
    weights = library.resolve("nano-q8").weights
    Library(library.root, prune=False).delete("nano-q8")
    assert weights.exists()


def test_pinned_blobs_are_not_pruned(library):
    record = library.find(ModelName.parse("nano-q8"))
    assert record is not None
    with library.pin(record.manifest.blobs()):
        library.delete("nano-q8")
        assert all(library.blobs.has(digest) for digest in record.manifest.blobs())
    assert not library.blobs.has(record.weights.digest)


def test_many_at_once_leave_a_sound_store(library, creating):
    names = [f"m{number}" for number in range(4)]
    problems = []

    def work(seed):
        dice = random.Random(seed)
        for _ in range(25):
            name, other = dice.choice(names), dice.choice(["nano", *names])
            try:
                match dice.randrange(4):
                    case 0:
                        library.delete(name)
                    case 1:
                        library.copy(other, name)
                    case 2:
                        library.tags()
                    case _:
                        status, events = creating(library, model=name, source=other, system=f"s{dice.randrange(3)}")
                        if status not in (200, 404):
                            problems.append(events)
            except ModelNotFound:
                continue
            except ServerError as error:
                problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert fsck.check(library.root).sound


def test_every_power_cut_during_overwrite_leaves_a_whole_model(replayed, tmp_path, cut_power_at):
    for step in range(1, 30):
        root = tmp_path / str(step)
        shutil.copytree(replayed[0], root)
        library = Library(root)
        with cut_power_at(step) as steps:
            library.copy("nano", "nano-q8")
        spec = Library(root).resolve("nano-q8")
        assert spec.weights.is_file()
        assert spec.quantization in ("Q8_0", "F16")
        if steps[-1] != "cut":
            assert spec.quantization == "F16"
            break
        shutil.rmtree(root)
    assert step > 4
