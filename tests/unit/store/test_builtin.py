from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

import modelfiles
from server.errors import ModelNotFound
from server.store import builtin, fsck
from server.store.library import Library

GUIDE = Path(modelfiles.__file__).parent / "guide"
NANO = Path(__file__).parents[2] / "golden" / "models" / "nano.gguf"


@pytest.fixture
def folder(tmp_path):
    """A package folder with a small model: what is in the real one is tested once, below."""
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(NANO, package / "guide.gguf")
    (package / "Modelfile").write_text('FROM ./guide.gguf\nPARAMETER temperature 0\nPARAMETER stop "<|im_end|>"\n'
                                       'LICENSE """MIT"""\nMESSAGE user hi\n')  # fmt: skip
    (package / "think.Modelfile").write_text('FROM ./guide.gguf\nTEMPLATE """{{ .Prompt }}"""\nSYSTEM Think.\n')
    return package


@pytest.fixture
def store(tmp_path):
    return Library(tmp_path / "models")


def test_the_real_one(store):
    assert builtin.install(store, GUIDE) == ["guide", "guide:think"]
    guide, think = store.resolve("guide"), store.resolve("guide:think")
    assert guide.weights == think.weights
    assert guide.template is None
    assert guide.chat_template
    assert {"completion", "tools"} <= guide.capabilities
    assert "thinking" not in guide.capabilities
    assert "thinking" in think.capabilities
    assert guide.parameters["stop"]
    assert store.show("guide")["license"]
    assert fsck.check(store.root).sound
    assert builtin.install(store, GUIDE) == []


def test_modelfiles_are_followed(store, folder):
    builtin.install(store, folder)
    guide, think = store.resolve("guide"), store.resolve("guide:think")
    assert guide.parameters == {"temperature": 0.0, "stop": ("<|im_end|>",)}
    assert [message.content for message in guide.messages] == ["hi"]
    assert (think.template, think.system) == ("{{ .Prompt }}", "Think.")
    assert guide.weights.read_bytes() == NANO.read_bytes()
    assert store.show("guide")["license"] == "MIT"


def test_nothing_to_do_is_quick(store, folder):
    builtin.install(store, folder)
    times = []
    for _ in range(50):
        started = time.perf_counter()
        assert builtin.install(store, folder) == []
        times.append(time.perf_counter() - started)
    assert sorted(times)[25] < 2e-3


def test_deleting_sticks(store, folder):
    builtin.install(store, folder)
    store.delete("guide")
    assert builtin.install(Library(store.root), folder) == []
    (folder / "Modelfile").write_text("FROM ./guide.gguf\nSYSTEM A new version.\n")
    assert builtin.install(store, folder) == ["guide:think"]
    with pytest.raises(ModelNotFound):
        store.resolve("guide")


def test_a_new_version_renews_what_is_still_ours(store, folder):
    builtin.install(store, folder)
    store.copy("guide:think", "mine")
    (folder / "Modelfile").write_text("FROM ./guide.gguf\nSYSTEM A new version.\n")
    assert builtin.install(store, folder) == ["guide", "guide:think"]
    assert store.resolve("guide").system == "A new version."


def test_what_the_user_made_of_it_stays(store, folder, creating):
    builtin.install(store, folder)
    creating(store, model="guide", source="guide", system="Mine.")
    (folder / "Modelfile").write_text("FROM ./guide.gguf\nSYSTEM A new version.\n")
    assert builtin.install(store, folder) == ["guide:think"]
    assert store.resolve("guide").system == "Mine."


def test_a_model_of_that_name_that_was_there_first_stays(store, folder, creating):
    digest = str(store.blobs.add_file(NANO))
    creating(store, model="guide", files={"x.gguf": digest}, system="First.")
    assert builtin.install(store, folder) == ["guide:think"]
    assert store.resolve("guide").system == "First."


def test_new_times_are_no_new_version(store, folder):
    builtin.install(store, folder)
    store.delete("guide:think")
    os.utime(folder / "guide.gguf")
    assert builtin.install(store, folder) == []
    assert builtin.install(store, folder) == []


def test_an_old_manifest_of_ours_that_broke_is_made_again(store, folder):
    builtin.install(store, folder)
    path = store.root / "manifests/registry.ollama.ai/library/guide/latest"
    path.write_bytes(b"")
    (folder / "Modelfile").write_text("FROM ./guide.gguf\nSYSTEM A new version.\n")
    assert "guide" in builtin.install(store, folder)


def test_a_package_without_the_model_does_nothing(store, tmp_path):
    (tmp_path / "bare").mkdir()
    assert builtin.install(store, tmp_path / "bare") == []
    assert not store.root.exists()


def test_a_broken_marker_is_not_believed(store, folder):
    builtin.install(store, folder)
    (store.root / builtin.MARKER).write_text("[")
    assert builtin.install(store, folder) == []
    assert json.loads((store.root / builtin.MARKER).read_text())["content"]
