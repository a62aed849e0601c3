"""`create`: reads a Modelfile or a GGUF, brings its files to the server, and has the model made there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from server.cli.context import json_flag
from server.cli.errors import CliError
from server.config import Config

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("create")
@click.argument("model")
@click.option("-f", "--file", "file", default=None, metavar="FILE", help="A Modelfile, a GGUF or a folder")
@click.option("-q", "--quantize", default="", metavar="TYPE", help="Quantize, for example Q4_K_M")
@click.option("--draft-quantize", default="", metavar="TYPE", help="Quantize the DRAFT model")
@click.option("--allow-requantize", is_flag=True, help="Quantize weights that are quantized already")
@click.option(
    "--tensor-type",
    "tensor_types",
    multiple=True,
    metavar="PATTERN=TYPE",
    help="The type of tensors by the regular expression of their whole name; the first that matches counts",
)
@click.option("--imatrix", type=FILE, help="An importance matrix of llama.cpp to quantize with")
@click.option("--calibrate", multiple=True, type=FILE, help="A text to compute an importance matrix from")
@click.option("--calibrate-self", is_flag=True, help="Compute one from what the model itself writes")
@click.option("--keep-imatrix", is_flag=True, help="Keep the importance matrix in the model")
@json_flag
def create_command(
    model: str, file: str | None, as_json: bool, imatrix: Path | None, calibrate: tuple[Path, ...], **settings: Any
) -> None:
    """Create MODEL. Without -f from ./Modelfile, else from the GGUF files of this folder.

    With --json every progress object is a line.
    """
    from server.cli.client import Client
    from server.cli.progress import Progressing, progress
    from server.cli.recipe import recipe
    from server.cli.uploads import Uploads

    named_texts, named_matrix = by_name(calibrate), by_name([imatrix] if imatrix else [])
    made_of = recipe(file, Path.cwd())
    for warning in made_of.warnings:
        click.echo(f"warning: {warning}", err=True)
    config = Config.load()
    client = Client(config.host)
    client.get("/api/version")  # a server that is not there is said before gigabytes are read

    def bring(bars: Progressing) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model} | made_of.body
        uploads = Uploads(client, config, bars.update)
        named = {
            "files": made_of.files,
            "adapters": made_of.adapters,
            "draft_files": made_of.draft_files,
            "imatrix": named_matrix,
            "calibration": named_texts,
        }
        body |= {field: {name: uploads.add(path) for name, path in files.items()} for field, files in named.items()}
        return without_empty(body | settings)

    succeeded = False
    with progress() as bars:
        bars.follow({"status": "gathering model components"})
        for piece in client.stream("/api/create", bring(bars)):
            succeeded = piece.get("status") == "success"
            if as_json:
                click.echo(json.dumps(piece))
            bars.follow(piece)
    if not succeeded:
        raise CliError("the server ended before the model was made")


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    from server.cli.recipe import merge

    named: dict[str, Path] = {}
    for path in paths:
        merge(named, {path.name: path})
    return named


def without_empty(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value}
