"""scripts/setup.py: which build it chooses, and what it takes for a finished one. Nothing is built here."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/setup.py"


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llamada_setup", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("asked", "system", "nvcc", "gpus", "kind", "why"),
    [
        ("", "linux", True, 2, "cuda", "2 GPUs"),
        ("", "linux", False, 1, "cpu", "install the CUDA toolkit"),
        ("", "linux", True, 0, "cpu", "no NVIDIA driver"),
        ("", "linux", False, 0, "cpu", "no NVIDIA GPU"),
        ("", "darwin", False, 0, "metal", "macOS"),
        ("vulkan", "linux", True, 1, "vulkan", "LLAMADA_BUILD"),
        ("cpu", "darwin", False, 0, "cpu", "LLAMADA_BUILD"),
        ("auto", "linux", False, 0, "cpu", "no NVIDIA GPU"),
    ],
)
def test_the_build_fits_the_machine(
    setup: ModuleType, asked: str, system: str, nvcc: bool, gpus: int, kind: str, why: str
) -> None:
    choice = setup.choose(asked, system, nvcc=nvcc, gpus=gpus)
    assert choice.kind == kind
    assert why in choice.reason


def test_an_unknown_build_names_the_known_ones(setup: ModuleType) -> None:
    with pytest.raises(setup.SetupError, match="cpu, cuda, metal, rocm, vulkan"):
        setup.choose("gpu", "linux", nvcc=False, gpus=0)


def test_builds_of_other_kinds_and_cpus_are_kept_apart(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, vulkan = setup.Choice("cpu", ""), setup.Choice("vulkan", "")
    here = setup.wheel_folder(cpu, {"HOME": "/h"})
    assert here == setup.wheel_folder(cpu, {"HOME": "/h"})
    others = [setup.wheel_folder(vulkan, {}), setup.wheel_folder(cpu, {"CMAKE_ARGS": "-DGGML_AVX=off"})]
    monkeypatch.setattr(setup, "cpu_flags", lambda: "another machine")
    others.append(setup.wheel_folder(cpu, {}))
    assert len({here, *others}) == 4


@pytest.mark.parametrize(
    ("files", "kind", "good"),
    [
        (["libllama.so", "libmtmd.so", "include/ggml-metal.h"], "cpu", True),
        (["libllama.so"], "cpu", False),
        (["libllama.so", "libmtmd.so", "libggml-cuda.so"], "cpu", False),
        (["libllama.so", "libmtmd.so", "libggml-cuda.so"], "cuda", True),
        (["libllama.so", "libmtmd.so"], "cuda", False),
    ],
)
def test_a_wheel_is_taken_only_if_it_is_what_was_asked_for(
    setup: ModuleType, tmp_path: Path, files: list[str], kind: str, good: bool
) -> None:
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in files:
            archive.writestr(name, b"")
    assert setup.complete(wheel, kind) is good


def test_the_pins_cover_what_the_project_needs(setup: ModuleType) -> None:
    assert setup.pinned("llama-cpp-python") == "0.3.36"
    assert setup.pinned("torch") == "2.13.0"
    with pytest.raises(setup.SetupError):
        setup.pinned("nothing")
    for requirement in setup.dev_requirements():
        name = requirement.split(">=")[0].split("==")[0]
        assert setup.pinned(name.lower().replace("_", "-"))


def test_without_a_compiler_the_error_says_what_to_install(setup: ModuleType) -> None:
    with pytest.raises(setup.SetupError, match="apt install build-essential cmake"):
        setup.need_compiler({"PATH": "/nonexistent"})


def test_what_was_asked_for_once_holds(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "RECORD", tmp_path / "llamada-build.json")
    assert setup.remembered({})["LLAMADA_BUILD"] == ""
    asked = {"LLAMADA_BUILD": "vulkan", "CMAKE_ARGS": "-DGGML_AVX512=off"}
    setup.write_record(setup.Choice("vulkan", "asked"), asked, {"stamp": "s"})
    assert setup.remembered({"PATH": "/bin"}) == {**asked, "PATH": "/bin"}
    assert setup.remembered({"CMAKE_ARGS": ""})["CMAKE_ARGS"] == ""
    setup.write_record(setup.Choice("cpu", "chosen"), setup.remembered({"LLAMADA_BUILD": "auto"}), {})
    assert setup.remembered({})["LLAMADA_BUILD"] == ""


def test_a_broken_environment_is_made_anew(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = tmp_path / ".venv"
    monkeypatch.setattr(setup, "VENV", venv)
    monkeypatch.setattr(setup, "RECORD", venv / "llamada-build.json")
    assert not setup.venv_works()
    base = tmp_path / "python3.11"
    base.touch()
    (venv / "bin").mkdir(parents=True)
    (venv / "lib/python3.11").mkdir(parents=True)
    (venv / "bin/python").symlink_to(base)
    assert not setup.venv_works()  # interrupted before pip was there
    (venv / "bin/pip").touch()
    assert setup.venv_works()
    (venv / "llamada-build.json").write_text('{"place": "/elsewhere"}')
    assert not setup.venv_works()
    (venv / "llamada-build.json").unlink()
    base.rename(tmp_path / "python3.12")
    assert not setup.venv_works()  # Python is gone
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to(tmp_path / "python3.12")
    assert not setup.venv_works()  # Python has become another
