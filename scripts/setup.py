"""Sets up this checkout: a virtual environment in .venv with the command .venv/bin/llamada.

Needs only Python >= 3.11, a C/C++ compiler and cmake; uses only the standard library. Chooses the build of llama.cpp
for this machine, says so, and remembers it in .venv/llamada-build.json (`llamada doctor` repeats it). What is already
done is skipped: a second call takes a fraction of a second.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
RECORD = VENV / "llamada-build.json"
WHEELHOUSE = ROOT / "wheelhouse"
OWN = ("pyproject.toml", "constraints.txt", "scripts/llama.cmake")

CMAKE_ARGS = {
    "cpu": "-DGGML_METAL=off",
    "cuda": "-DGGML_CUDA=on",
    "metal": "-DGGML_METAL=on",
    "rocm": "-DGGML_HIP=on",
    "vulkan": "-DGGML_VULKAN=on",
}
AUTO = "auto"
GPU_LIBRARIES = {"cuda": "libggml-cuda", "metal": "libggml-metal", "rocm": "libggml-hip", "vulkan": "libggml-vulkan"}


class SetupError(Exception):
    """Something the user has to change; the text says what."""


@dataclass(frozen=True, slots=True)
class Choice:
    kind: str
    reason: str


def choose(asked: str, system: str, *, nvcc: bool, gpus: int) -> Choice:
    """Which llama.cpp to build. Pure: ``gpus`` = NVIDIA GPUs that the driver shows, ``asked`` "" or auto = choose."""
    if asked not in ("", AUTO):
        if asked not in CMAKE_ARGS:
            raise SetupError(f"LLAMADA_BUILD={asked} is unknown; use one of {', '.join([*CMAKE_ARGS, AUTO])}")
        return Choice(asked, "LLAMADA_BUILD asked for it")
    if system == "darwin":
        return Choice("metal", "this is macOS")
    if gpus and nvcc:
        return Choice("cuda", f"the NVIDIA driver shows {gpus} GPU{'s' if gpus > 1 else ''} and nvcc is installed")
    if gpus:
        return Choice(
            "cpu", "an NVIDIA GPU is there but nvcc is not: install the CUDA toolkit and run this again to use it"
        )
    if nvcc:
        return Choice("cpu", "nvcc is installed but no NVIDIA driver shows a GPU")
    return Choice("cpu", "no NVIDIA GPU was found")


def nvidia_gpus() -> int:
    """GPUs that libcuda counts: 0 without a driver, or with one that sees no card (a container, a build host)."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def find_nvcc(environment: Mapping[str, str]) -> str | None:
    """nvcc, also where the CUDA toolkit is installed but not on the PATH."""
    homes = [environment.get("CUDA_HOME", ""), environment.get("CUDA_PATH", ""), "/usr/local/cuda"]
    folders = os.pathsep.join([environment.get("PATH", ""), *(f"{home}/bin" for home in homes if home)])
    return shutil.which("nvcc", path=folders)


# -- the environment ------------------------------------------------------------------------------------


def pip(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """One quiet pip command in the environment; its log is shown only when it fails."""
    offline = ["--no-index", "--find-links", str(WHEELHOUSE)] if WHEELHOUSE.is_dir() else []
    verb, *rest = arguments
    command = [str(VENV / "bin/python"), "-m", "pip", "--disable-pip-version-check", verb, *offline, *rest]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        log = VENV / "setup.log"
        log.write_text(result.stdout)
        raise SetupError(f"{result.stdout[-6000:]}\npip failed (the whole log: {log})")


def make_venv() -> None:
    if venv_works():
        return
    say("Making .venv …")
    result = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(f"{result.stdout}\npython -m venv failed. On Debian and Ubuntu: apt install python3-venv")


def venv_works() -> bool:
    """Not one whose making was interrupted, whose Python is gone or has become another, or that was moved."""
    python = VENV / "bin/python"
    if not python.exists() or not (VENV / "bin/pip").exists() or read_record().get("place", str(ROOT)) != str(ROOT):
        return False
    version = python.resolve().name
    return (VENV / "lib" / version).is_dir() or not re.fullmatch(r"python3\.\d+", version)


# -- llama-cpp-python -----------------------------------------------------------------------------------


def pinned(name: str) -> str:
    """The version of ``name`` in constraints.txt."""
    match = re.search(rf"^{re.escape(name)}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if not match:
        raise SetupError(f"constraints.txt does not pin {name}")
    return match[1]


def wheel_folder(choice: Choice, environment: Mapping[str, str]) -> Path:
    """Where the built wheel is kept, for all checkouts of this user.

    pip's own wheel cache knows neither CMAKE_ARGS nor the CPU that -march=native means, so a CPU build would be
    taken for a CUDA one; this key has all of it.
    """
    parts = [cpu_flags(), "".join(platform.libc_ver()), (ROOT / "scripts/llama.cmake").read_text()]
    parts += [environment.get("CMAKE_ARGS", "")]
    if choice.kind == "cuda" and (nvcc := find_nvcc(environment)):
        parts += [subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    base = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"{choice.kind}-{pinned('llama-cpp-python')}-{sys.platform}-{platform.machine()}-{key}"
    return base / "llamada" / "wheels" / name


def cpu_flags() -> str:
    """What -march=native depends on, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def llama_wheel(choice: Choice, environment: Mapping[str, str]) -> Path:
    """The wheel of llama-cpp-python for this machine, built if it is not in the cache."""
    folder = wheel_folder(choice, environment)
    if found := next(folder.glob("llama_cpp_python-*.whl"), None):
        return found
    if WHEELHOUSE.is_dir() and (found := next(WHEELHOUSE.glob("llama_cpp_python-*.whl"), None)):
        return found
    need_compiler(environment)
    say("Building llama.cpp for this machine: two to four minutes on two cores. It is kept, later set-ups reuse it.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # A CPU wheel in pip's cache is as good as a new one, if it is complete; one for a GPU cannot be told from it.
        built = build_wheel(choice, environment, Path(temporary), cached=choice.kind == "cpu")
        if not complete(built, choice.kind):
            built.unlink()
            built = build_wheel(choice, environment, Path(temporary), cached=False)
        if not complete(built, choice.kind):
            raise SetupError(f"the build has no {choice.kind} backend; see CMAKE_ARGS and the compiler's log")
        return built.replace(folder / built.name)


def build_wheel(choice: Choice, environment: Mapping[str, str], out: Path, *, cached: bool) -> Path:
    args = [
        f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={ROOT / 'scripts/llama.cmake'}",
        CMAKE_ARGS[choice.kind],
        environment.get("CMAKE_ARGS", ""),
    ]
    building = {**environment, "CMAKE_ARGS": " ".join(filter(None, args))}
    if choice.kind == "cuda" and (nvcc := find_nvcc(environment)):
        building.setdefault("CUDACXX", nvcc)
    requirement = f"llama-cpp-python=={pinned('llama-cpp-python')}"
    options = ["--no-deps", "--wheel-dir", str(out), "--config-settings", "build.targets=llama;mtmd"]
    pip("wheel", requirement, *options, *([] if cached else ["--no-cache-dir"]), environment=building)
    return next(out.glob("llama_cpp_python-*.whl"))


def complete(wheel: Path, kind: str) -> bool:
    """Whether the wheel holds libllama, libmtmd and the backend of ``kind``, and no other GPU's."""
    with zipfile.ZipFile(wheel) as archive:
        names = " ".join(archive.namelist())
    wanted = {"libllama", "libmtmd"} | {library for k, library in GPU_LIBRARIES.items() if k == kind}
    unwanted = {library for k, library in GPU_LIBRARIES.items() if k != kind}
    return all(name in names for name in wanted) and not any(name in names for name in unwanted)


def need_compiler(environment: Mapping[str, str]) -> None:
    path = environment.get("PATH")
    if environment.get("CXX") or any(shutil.which(c, path=path) for c in ("c++", "g++", "clang++")):
        return
    raise SetupError(
        "a C++ compiler is needed to build llama.cpp. Debian/Ubuntu: apt install build-essential cmake. "
        "Fedora: dnf install gcc-c++ cmake. macOS: xcode-select --install"
    )


# -- what the tests need besides Python -----------------------------------------------------------------


def install_test_registry(environment: Mapping[str, str]) -> None:
    """Debian's `docker-registry`, against which pull and push are tested, where this user may install it.

    Elsewhere those tests are skipped, and say so. A failure is no reason to stop: nothing else needs it.
    """
    path = environment.get("PATH")
    if any(shutil.which(name, path=path) for name in ("docker-registry", "registry")):
        return
    apt = shutil.which("apt-get", path=path)
    if apt is None or os.geteuid() != 0 or WHEELHOUSE.is_dir():
        return
    say("Installing docker-registry for the tests of pull and push …")
    quiet = {**environment, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        [apt, "-qq", "update"],
        [apt, "-qq", "install", "-y", "--no-install-recommends", "docker-registry"],
    ):
        done = subprocess.run(
            command, env=quiet, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode:
            say("It could not be installed; those tests will be skipped.")
            return


# -- the whole ------------------------------------------------------------------------------------------


def stamp(choice: Choice, environment: Mapping[str, str]) -> str:
    """Changes when what is installed would change."""
    parts = [(ROOT / name).read_bytes() for name in OWN]
    parts += [choice.kind.encode(), environment.get("CMAKE_ARGS", "").encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def read_record() -> dict[str, object]:
    try:
        record: dict[str, object] = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return {}
    return record


def remembered(environment: Mapping[str, str]) -> dict[str, str]:
    """What was asked for once holds for later set-ups, until something else (or LLAMADA_BUILD=auto) is."""
    record = read_record()
    asked, args = (str(record.get(name, "")) for name in ("asked", "extra_cmake_args"))
    return {**environment, "LLAMADA_BUILD": environment.get("LLAMADA_BUILD") or asked,
            "CMAKE_ARGS": environment.get("CMAKE_ARGS", args)}  # fmt: skip


def project() -> dict[str, Any]:
    import tomllib  # here, so that an older Python gets the message in main() and not a traceback

    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def dev_requirements() -> list[str]:
    """The development group, read here: older pips know no --group."""
    return list(project()["dependency-groups"]["dev"])


def other_requirements(*, dev: bool) -> list[str]:
    """All but llama-cpp-python: they can be fetched while it is built."""
    wanted = [name for name in project()["project"]["dependencies"] if not name.startswith("llama-cpp-python")]
    return [*wanted, *(dev_requirements() if dev else [])]


def install(choice: Choice, environment: Mapping[str, str], *, dev: bool) -> None:
    record = read_record()
    mark = stamp(choice, environment)
    dev = dev or bool(record.get("dev"))
    if record.get("stamp") == mark and record.get("dev") == dev and venv_works() and (VENV / "bin/llamada").exists():
        return
    started = time.monotonic()
    say(f"llama.cpp build: {choice.kind}, because {choice.reason}.")
    say(f"To choose another: LLAMADA_BUILD={'|'.join([*CMAKE_ARGS, AUTO])} make setup")
    make_venv()
    RECORD.unlink(missing_ok=True)
    with ThreadPoolExecutor(1) as beside:
        others = beside.submit(pip, "install", "-c", "constraints.txt", *other_requirements(dev=dev))
        wheel = llama_wheel(choice, environment)
        others.result()
    say("Installing …")
    pip("install", "-c", "constraints.txt", str(wheel), "-e", ".")
    if record and record.get("wheel") != wheel.parent.name:  # the same version, built otherwise: pip sees no difference
        pip("install", "--force-reinstall", "--no-deps", str(wheel))
    write_record(choice, environment, {"dev": dev, "stamp": mark, "wheel": wheel.parent.name})
    say(f"Ready after {time.monotonic() - started:.0f} s: .venv/bin/llamada")


def write_record(choice: Choice, environment: Mapping[str, str], more: Mapping[str, object]) -> None:
    """Last of all: without it a set-up is not done. `llamada doctor` reads the first three."""
    record = {
        "kind": choice.kind,
        "reason": choice.reason,
        "llama_cpp_python": pinned("llama-cpp-python"),
        "asked": environment.get("LLAMADA_BUILD", "").replace(AUTO, ""),
        "extra_cmake_args": environment.get("CMAKE_ARGS", ""),
        "place": str(ROOT),
    }
    RECORD.write_text(json.dumps(record | dict(more), indent=1) + "\n")


def make_wheelhouse(choice: Choice, environment: Mapping[str, str], *, dev: bool) -> None:
    """Every wheel that `make setup`, or `pip install llamada`, needs on a machine like this one without a network."""
    make_venv()
    wheel = llama_wheel(choice, environment)
    building = WHEELHOUSE.with_name("wheelhouse.new")
    shutil.rmtree(building, ignore_errors=True)
    extra = ["hatchling", "editables", *(dev_requirements() if dev else [])]
    say("Collecting wheels …")
    pip("wheel", "-c", "constraints.txt", "--wheel-dir", str(building), str(wheel), ".", *extra)
    shutil.rmtree(WHEELHOUSE, ignore_errors=True)
    building.rename(WHEELHOUSE)
    count = len(list(WHEELHOUSE.iterdir()))
    say(f"{count} wheels in wheelhouse/. Copy the checkout with it; `make setup` uses it there.")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="with the tools that `make test` needs")
    parser.add_argument("--wheelhouse", action="store_true", help="collect wheels for a machine without a network")
    arguments = parser.parse_args()
    environment = remembered(os.environ)
    try:
        if sys.version_info < (3, 11):  # noqa: UP036 - started by whichever python3 there is
            raise SetupError(
                f"Python 3.11 or newer is needed, this is {platform.python_version()}: make PYTHON=python3.12 …"
            )
        nvcc = bool(find_nvcc(environment))
        choice = choose(environment["LLAMADA_BUILD"], sys.platform, nvcc=nvcc, gpus=nvidia_gpus())
        if arguments.wheelhouse:
            make_wheelhouse(choice, environment, dev=arguments.dev)
        else:
            install(choice, environment, dev=arguments.dev)
            if arguments.dev:
                install_test_registry(environment)
    except SetupError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
