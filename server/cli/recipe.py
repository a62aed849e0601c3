"""What `create` is given (a Modelfile, GGUF, checkpoint or folder) → the request and its files. Opens no socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelfiles import modelfile
from modelfiles.errors import ModelfilesError
from modelfiles.modelfile import Modelfile
from server.cli.errors import CliError

MAGIC = b"GGUF"
MAX_MODELFILE = 64 * 1024 * 1024
CHECKPOINTS = ("*.safetensors", "pytorch_model*.bin", "consolidated*.pth")
# What belongs to a checkpoint besides its weights: settings, tokenizer, chat template, pooling.
COMPANIONS = ("*.json", "*/*.json", "chat_template.jinja", "tokenizer.model", "vocab.txt", "merges.txt")
Files = Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Recipe:
    """``body``: the fields of `/api/create` but for files; those are by name, to be uploaded first."""

    body: dict[str, Any]
    files: Files = field(default_factory=dict)
    adapters: Files = field(default_factory=dict)
    draft_files: Files = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def recipe(given: str | None, here: Path) -> Recipe:
    """``given``: what `-f` says. Without it `./Modelfile`, else the models of this folder."""
    path = here / (given or "Modelfile")
    if path.is_dir():
        return of_text("FROM .", path)
    if not path.is_file():
        if given is not None:
            raise CliError(f"specified Modelfile wasn't found: {given}")
        return of_text("FROM .", here)
    with path.open("rb") as file:
        start = file.read(MAX_MODELFILE if path.stat().st_size <= MAX_MODELFILE else len(MAGIC))
    if start.startswith(MAGIC):
        return Recipe({}, files={path.name: path})
    return of_text(start, path.parent)


def of_text(text: str | bytes, folder: Path) -> Recipe:
    """A Modelfile whose paths are relative to ``folder``."""
    try:
        parsed = modelfile.parse(text)
    except ModelfilesError as error:
        raise CliError(str(error)) from error
    body = fields(parsed)
    files: dict[str, Path] = {}
    for source in parsed.sources:
        found = find(source, folder, "FROM")
        if found:
            merge(files, found)
        elif "from" in body:
            raise CliError(f'FROM {source}: a model is made from one model only, and there is "{body["from"]}" already')
        else:
            body["from"] = source
    return Recipe(
        body,
        files,
        needed(parsed.adapters, folder, "ADAPTER"),
        needed(parsed.drafts, folder, "DRAFT"),
        parsed.warnings,
    )


def fields(parsed: Modelfile) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in parsed.messages]
    found = {
        "template": parsed.template,
        "system": parsed.system,
        "license": list(parsed.licenses),
        "parameters": dict(parsed.parameters),
        "messages": messages,
        "renderer": parsed.renderer,
        "parser": parsed.parser,
        "requires": parsed.requires,
    }
    return {name: value for name, value in found.items() if value}


def needed(sources: tuple[str, ...], folder: Path, instruction: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for source in sources:
        found = find(source, folder, instruction)
        if not found:
            raise CliError(f"{instruction} {source}: no such file")
        merge(files, found)
    return files


def find(source: str, folder: Path, instruction: str) -> dict[str, Path]:
    """The files behind a path, by name; none if it is the name of a model. A path that exists wins."""
    path = folder / Path(source).expanduser()
    if path.is_file():
        return {path.name: path}
    if path.is_dir() and ("/" in source or source == "." or has_weights(path)):
        return weights_in(path)
    if source.startswith(("/", "./", "../", "~/")) or source.lower().endswith(".gguf"):
        raise CliError(f"{instruction} {source}: no such file or folder")
    return {}


def has_weights(folder: Path) -> bool:
    """A folder that happens to be called like a model is not one."""
    return any(next(folder.glob(pattern), None) for pattern in ("*.gguf", *CHECKPOINTS))


def weights_in(folder: Path) -> dict[str, Path]:
    """GGUF files, else the files of a checkpoint or of a PEFT adapter, by their names within the folder."""
    found = {path.name: path for path in sorted(folder.glob("*.gguf")) if path.is_file()}
    if found:
        return found
    if next(folder.glob("*.safetensors"), None):
        return checkpoint_in(folder)
    if any(next(folder.glob(pattern), None) for pattern in CHECKPOINTS):
        raise CliError(
            f"{folder} holds pickled weights, which can run code and are never read; load it where you trust it and "
            "save it with save_pretrained(folder, safe_serialization=True)"
        )
    raise CliError(f"no Modelfile, safetensors or GGUF files found in {folder}")


def checkpoint_in(folder: Path) -> dict[str, Path]:
    """``model*.safetensors`` if there are any (the same weights may lie beside them in another layout), else all."""
    weights = sorted(folder.glob("*.safetensors"))
    usual = [path for path in weights if path.name.startswith("model")]
    others = [path for pattern in COMPANIONS for path in sorted(folder.glob(pattern))]
    files = {path.relative_to(folder).as_posix(): path for path in (*(usual or weights), *others) if path.is_file()}
    inside = (folder.resolve(), hub_cache(folder))
    for name, path in files.items():
        if not any(place and path.resolve().is_relative_to(place) for place in inside):
            raise CliError(f"insecure path: {name} is a link to a file outside of {folder}")
    return files


def hub_cache(folder: Path) -> Path | None:
    """Where the links of a snapshot in the Hugging Face cache lead to."""
    snapshot = folder.resolve()
    return snapshot.parent.parent / "blobs" if snapshot.parent.name == "snapshots" else None


def merge(files: dict[str, Path], more: Mapping[str, Path]) -> None:
    for name, path in more.items():
        if files.setdefault(name, path) != path:
            raise CliError(f"two files are called {name}; rename one")
