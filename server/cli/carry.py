"""`export`, `import` and `prune`: models out of the store, into it, and what nobody needs off it. Without a server."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.cli.client import Client
from server.cli.context import echo_json, json_flag
from server.cli.errors import CliError
from server.cli.words import human_bytes
from server.config import Config
from server.errors import ServerError

if TYPE_CHECKING:
    from server.cli.progress import Progressing
    from server.cli.recipe import Recipe
    from server.store.library import Library
    from server.store.requests import CreateRequest


def store(config: Config) -> Library:
    """The models directory. Nothing is pruned: a server beside us may need what we cannot know."""
    from server.store.library import Library

    return Library(config.models, go_template=config.go_template, prune=False)


@click.command("export")
@click.argument("models", nargs=-1, required=True)
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="FILE.tar or a new folder")
@click.option("--gguf", is_flag=True, help="Plain GGUF files and a Modelfile, instead of an OCI image layout")
def export_command(models: tuple[str, ...], out: Path, gguf: bool) -> None:
    """Write MODELS to one tar or folder that `llamada import` reads on another machine. Needs no server."""
    from server.cli.progress import progress
    from server.store import gguf_folder, layout

    library = store(Config.load())
    if gguf and len(models) != 1:
        raise CliError("--gguf writes one model at a time")
    try:
        with progress() as bars:
            if gguf:
                gguf_folder.export(library, models[0], out, bars.update)
            else:
                layout.export(library, list(models), out, bars.update)
    except ServerError as error:
        raise CliError(error.message) from error
    click.echo(f"wrote {out}", err=True)


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("model", default="")
@json_flag
def import_command(path: Path, model: str, as_json: bool) -> None:
    """Install what `export` wrote, or a GGUF file, a Modelfile or a folder of them under the name MODEL.

    Needs no server. Files are shared where the file system can, read-only files are linked, others copied.
    """
    from server.cli.progress import progress
    from server.store.layout import import_layout, is_layout

    if not path.exists():
        raise CliError(f"{path}: no such file or folder")
    config = Config.load()
    library = store(config)
    try:
        with progress() as bars:
            if is_layout(path):
                names = import_layout(library, path, model, bars.update)
            else:
                names = [_make(library, config, path, model, bars)]
    except ServerError as error:
        raise CliError(error.message) from error
    if as_json:
        echo_json({"imported": names})
    else:
        click.echo("\n".join(f"imported '{name}'" for name in names))


def _make(library: Library, config: Config, path: Path, model: str, bars: Progressing) -> str:
    """As `create` does through a server."""
    from server.cli.recipe import recipe
    from server.store.create import create
    from server.store.digests import Digest
    from server.store.library import parse_name
    from server.store.prune import referenced

    if not model:
        raise CliError(f"give the model a name: llamada import {path} NAME")
    name = parse_name(model)
    source = path / "Modelfile" if (path / "Modelfile").is_file() else path

    async def make() -> None:
        async with aclosing(create(library, wanted, environment=config.child_environment)) as events:
            async for event in events:
                bars.follow(event)

    before = set(library.blobs.digests())
    wanted = _request(library, model, recipe(str(source.absolute()), Path.cwd()), bars)
    asyncio.run(make())
    brought = [*(wanted.files or {}).values(), *(wanted.adapters or {}).values(), *(wanted.draft_files or {}).values()]
    used, unreadable = referenced(library.manifests)
    if not unreadable:
        for digest in {Digest.parse(text) for text in brought} - before - used:  # llama.cpp wrote it anew
            library.blobs.delete(digest)
    return name.short()


def _request(library: Library, model: str, made_of: Recipe, bars: Progressing) -> CreateRequest:
    from server.store.requests import CreateRequest
    from server.types import Message

    def add(path: Path) -> str:
        size = path.stat().st_size
        bars.update(f"reading {path.name}", 0, size)
        digest = str(library.blobs.add_file(path))
        bars.update(f"reading {path.name}", size, size)
        return digest

    body = dict(made_of.body)
    files = {"files": made_of.files, "adapters": made_of.adapters, "draft_files": made_of.draft_files}
    given: dict[str, Any] = {
        name: {file: add(path) for file, path in paths.items()} for name, paths in files.items() if paths
    }
    messages = tuple(Message(message["role"], message["content"]) for message in body.pop("messages", ()))
    return CreateRequest(model, source=body.pop("from", ""), messages=messages, **given, **body)


@click.command("prune")
@click.option("--all", "everything", is_flag=True, help="Also unfinished downloads, and files of the last hour")
@json_flag
def prune_command(everything: bool, as_json: bool) -> None:
    """Remove files that no model needs. A server does this at its start; run it while none is running."""
    from server.store.prune import remove_unused

    config = Config.load()
    if Client(config.host).alive():
        raise CliError(f"a server runs at {config.host.url} and may be using them; stop it first")
    library = store(config)
    try:
        files, nbytes = remove_unused(library.manifests, library.blobs, everything=everything)
    except ServerError as error:
        raise CliError(error.message) from error
    if as_json:
        echo_json({"files": files, "bytes": nbytes})
    else:
        click.echo(f"removed {files} files, {human_bytes(nbytes)}")
