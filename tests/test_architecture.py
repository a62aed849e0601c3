"""The rules of docs/architecture.md, as tests: who may import whom, and what only one file may do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("server", "converters", "modelfiles")
MAX_LINES = 500

# Open to every room of `server`.
OPEN = {"server.errors", "server.types", "server.messages", "server.options"}
SERVING = {
    "modelfiles",
    "server.config",
    "server.metrics",
    "server.store",
    "server.hardware",
    "server.runners",
    "server.manager",
    "server.inference",
    "server.api",
}
# room → the rooms it may import, besides itself and the open ones. Every module belongs to exactly one room.
ROOMS: dict[str, set[str]] = {
    "modelfiles": set(),
    "converters": {"modelfiles"},
    "server.errors": set(),
    "server.types": set(),
    "server.messages": set(),
    "server.options": set(),
    "server.config": set(),
    "server.metrics": set(),
    "server.store": {"modelfiles"},
    "server.hardware": {"modelfiles"},
    "server.runners": set(),
    "server.manager": {"server.runners", "server.hardware", "server.store"},
    "server.inference": {"server.store", "server.manager", "modelfiles"},  # what of a history models are shown
    "server.api": SERVING - {"server.runners"},
    "server.app": SERVING,
    "server.inprocess": SERVING | {"server.app"},
    "server.cli": {"modelfiles", "server.config", "server.app", "server.hardware", "server.store"},
    "server.__main__": {"server.cli"},
    "server.worker": {"modelfiles"},
}
# What the open modules may import of ours: less than the rest, since all depend on them.
OPEN_MAY_IMPORT = {
    "server.errors": set[str](),
    "server.types": set[str](),
    "server.messages": {"server.types"},
    "server.options": {"server.errors", "server.types"},
}
# heavy library → the only modules that may import it
DOORS: dict[str, set[str]] = {
    "llama_cpp": {"server.worker.backends.llamacpp", "converters.gguf"},
    "llguidance": {"server.worker"},
    "torch": {"server.worker.backends.pytorch", "converters"},
    "transformers": {"server.worker.backends.pytorch", "converters"},
    "ray": {"server.runners.ray"},
    "pynvml": {"server.hardware"},
    "psutil": {"server.hardware", "server.runners", "server.cli", "server.worker"},
    "aiohttp": {"server.api", "server.app", "server.metrics", "server.store.registry"},
    "cryptography": {"server.store.registry.keys"},
    "prometheus_client": {"server.metrics", "server.api", "server.app"},
    "click": {"server.cli", "server.__main__"},
    "rich": {"server.cli"},
    "jinja2": {"modelfiles"},
    "uvloop": {"server.app", "server.cli"},
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"),
    ("yaml", "load"),
    ("numpy", "load"),
    ("np", "load"),
    ("os", "system"),
    ("os", "popen"),
}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Every dotted name imported anywhere in the file, also inside functions and `if TYPE_CHECKING`."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inside(name: str, rooms: set[str] | dict[str, set[str]]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def room_of(module: str) -> str | None:
    return next((room for room in sorted(ROOMS, key=len, reverse=True) if inside(module, {room})), None)


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in PACKAGES}


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


@pytest.mark.parametrize("module", MODULES)
def test_a_room_opens_only_onto_the_rooms_of_its_row(module: str) -> None:
    if module == "server":  # the library's front: names looked up when asked for
        return
    room = room_of(module)
    assert room, f"{module} belongs to no room: give it a row in the table above and in docs/architecture.md"
    if room in OPEN_MAY_IMPORT:
        allowed = OPEN_MAY_IMPORT[room]
    else:
        allowed = ROOMS[room] | {room} | (OPEN if module.startswith("server.") else set())
    bad = {name for name in ours(MODULES[module]) if not inside(name, allowed)}
    assert not bad, f"{module} imports {sorted(bad)}"


@pytest.mark.parametrize("module", MODULES)
def test_a_heavy_library_has_one_door(module: str) -> None:
    for library, doors in DOORS.items():
        if any(inside(name, {library}) for name in imports(MODULES[module])):
            assert inside(module, doors), f"{module} imports {library}; its door is {sorted(doors)}"


def test_only_one_file_imports_ray() -> None:
    assert len([m for m, path in MODULES.items() if any(inside(n, {"ray"}) for n in imports(path))]) <= 1


@pytest.mark.parametrize("module", MODULES)
def test_nothing_can_run_code_out_of_data(module: str) -> None:
    path = MODULES[module]
    assert not {name for name in imports(path) if name.split(".")[0] in FORBIDDEN_MODULES}
    for call in calls(path):
        function = call.func
        if isinstance(function, ast.Name):
            assert function.id not in FORBIDDEN_CALLS, f"{module}:{call.lineno} calls {function.id}"
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            named = (function.value.id, function.attr)
            assert named not in FORBIDDEN_ATTRIBUTES, f"{module}:{call.lineno} calls {'.'.join(named)}"
        shell = [k for k in call.keywords if k.arg == "shell"]
        assert not shell, f"{module}:{call.lineno} starts a shell"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.startswith(("server", "modelfiles")) and m != "server.config"]
)
def test_only_config_reads_the_environment(module: str) -> None:
    path = MODULES[module]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ENVIRONMENT, f"{module}:{node.lineno} reads the environment"
    assert not {f"os.{name}" for name in ENVIRONMENT} & imports(path)


@pytest.mark.parametrize("module", [m for m in MODULES if not inside(m, {"server.store"})])
def test_only_the_store_makes_paths_of_digests(module: str) -> None:
    """A digest is text from outside until `store.digests` has parsed it."""
    for node in ast.walk(tree(MODULES[module])):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.left, node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "joinpath":
            parts = [*node.args]
        text = " ".join(ast.unparse(part) for part in parts).lower()
        line = getattr(node, "lineno", 0)
        assert "digest" not in text, f"{module}:{line} joins a digest into a path"
        assert "sha256-" not in text, f"{module}:{line} joins a digest into a path"


def test_the_table_of_the_map_and_this_one_agree() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    for room in ROOMS.keys() - {"server.__main__"}:
        assert room.rpartition(".")[2] in page, f"docs/architecture.md does not name {room}"


def source_files() -> list[Path]:
    folders = [ROOT / name for name in (*PACKAGES, "scripts", "tests", "examples")]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_short_and_imports_absolutely(path: Path) -> None:
    lines = path.read_text("utf-8").count("\n")
    assert lines <= MAX_LINES, f"{lines} lines: look for the second noun hiding in it"
    for node in ast.walk(tree(path)):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"line {node.lineno} imports relatively"
