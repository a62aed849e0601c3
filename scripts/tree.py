"""Writes the tree at the end of README.md: every tracked file with the first sentence of its docstring.

`scripts/tree.py --check` only says whether it is up to date. A new file that is no Python module gets its line below.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tree: written by scripts/tree.py -->", "<!-- end of tree -->"
WIDTH = 44
LENGTH = 110
# Folders whose files need no line each.
WHOLE = {
    "scripts/guide/facts": "what the built-in model is taught, in two languages",
    "tests/golden": "what real Ollama answered, and the models it answered for",
}
LINES = {
    ".ci/run": "what decides: the README's test command on a clean clone",
    ".gitignore": "",
    "CHANGELOG.md": "what changed",
    "LICENSE": "MIT",
    "Makefile": "run, setup, test, lint, wheelhouse, clean",
    "README.es.md": "this page in Spanish",
    "README.md": "this page",
    "constraints.txt": "the exact versions that the tests ran with",
    "pyproject.toml": "the package, its dependencies, and the settings of ruff, mypy and pytest",
    "tests/compat/frameworks.mjs": "the same for the client of npm",
    "scripts/llama.cmake": "leaves out of llama.cpp's build what the wheel does not contain",
    "scripts/llamada.service": "a systemd unit",
    "modelfiles/guide/Modelfile": "the built-in model",
    "modelfiles/guide/think.Modelfile": "guide:think: the same weights, thinking first",
    "modelfiles/guide/guide.gguf": "its weights",
    "modelfiles/guide/LICENSE": "its licence",
    "modelfiles/guide/README.md": "its card",
}


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).exists()]


def line_of(name: str) -> str:
    if name in LINES:
        return LINES[name]
    path = ROOT / name
    if name.endswith(".py") or (path.read_bytes()[:2] == b"#!" and b"python" in path.read_bytes()[:30]):
        return sentence(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
    if name.endswith(".md"):
        return path.read_text("utf-8").lstrip("# ").split("\n", 1)[0]
    text = path.read_text("utf-8", "ignore")
    comment = re.match(r"#!.*\n((?:#.*\n)+)", text)
    if comment:
        return sentence(comment[1].replace("#", " "))
    return sentence(text.split("\n", 1)[0].lstrip("# ")) if text.startswith("#") else ""


def sentence(text: str) -> str:
    """The first one; only as far as its colon if it is long."""
    text = re.split(r"(?<=[.;?])\s", " ".join(text.replace("``", "`").split()), maxsplit=1)[0].rstrip(".:;")
    first = re.split(r"(?<=.{25}):\s", text, maxsplit=1)[0] if len(text) > LENGTH else text
    return first if len(first) <= LENGTH else f"{first[: LENGTH - 1].rsplit(' ', 1)[0]} …"


def worth_a_line(name: str) -> bool:
    if name.endswith(("py.typed", ".gitignore")) or any(name.startswith(f"{folder}/") for folder in WHOLE):
        return False
    return not (name.endswith("__init__.py") and not line_of(name))


def render() -> str:
    rows: list[str] = []
    open_folders: tuple[str, ...] = ()
    names = [*filter(worth_a_line, tracked()), *(f"{folder}/" for folder in WHOLE)]
    for name in sorted(names, key=lambda n: ("/" not in n, n)):
        *folders, last = name.rstrip("/").split("/")
        for depth, folder in enumerate(folders):
            if tuple(folders[: depth + 1]) != open_folders[: depth + 1]:
                rows.append(f"{'  ' * depth}{folder}/")
        open_folders = tuple(folders)
        comment = WHOLE.get(name.rstrip("/")) or line_of(name)
        label = "  " * len(folders) + last + ("/" if name.endswith("/") else "")
        rows.append(f"{label:<{WIDTH}}{comment}".rstrip())
    return "```\n" + "\n".join(rows) + "\n```"


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    new = f"{before}{BEGIN}\n{render()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        if new != text:
            print("the tree in README.md is out of date: run scripts/tree.py", file=sys.stderr)
        return int(new != text)
    readme.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
