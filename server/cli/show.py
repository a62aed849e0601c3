"""`show`: what is known of a model, in Ollama's blocks."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

import click

from modelfiles.quantization import STORED, Sized, bits_per_weight, substitutes, substitutes_text
from server.cli.context import connect, echo_json, json_flag
from server.cli.errors import CliError
from server.cli.words import human_bytes, table

INDENT = "    "
LINES_SHOWN = 2
VALUES_SHOWN = 3
PARTS = ("license", "modelfile", "parameters", "system", "template")
Rows = list[list[str]]


@click.command("show")
@click.argument("model")
@click.option("--license", "part_license", is_flag=True, help="Only the license")
@click.option("--modelfile", "part_modelfile", is_flag=True, help="Only the Modelfile")
@click.option("--parameters", "part_parameters", is_flag=True, help="Only the parameters")
@click.option("--system", "part_system", is_flag=True, help="Only the system message")
@click.option("--template", "part_template", is_flag=True, help="Only the template")
@click.option("-v", "--verbose", is_flag=True, help="Metadata and tensors too")
@json_flag
def show_command(model: str, verbose: bool, as_json: bool, **parts: bool) -> None:
    """Show what is known of MODEL."""
    chosen = [name for name in PARTS if parts[f"part_{name}"]]
    if len(chosen) > 1:
        names = [f"'--{name}'" for name in PARTS]
        raise CliError(f"only one of {', '.join(names[:-1])}, or {names[-1]} can be specified")
    answer = connect().post("/api/show", {"model": model, "verbose": verbose})
    if as_json:
        echo_json({chosen[0]: answer.get(chosen[0], "")} if chosen else answer)
    elif chosen:
        click.echo(answer.get(chosen[0], ""))
    else:
        click.echo(render(answer, verbose=verbose), nl=False)


def render(answer: dict[str, Any], *, verbose: bool = False) -> str:
    blocks: list[tuple[str, Rows]] = [
        ("Model", model_rows(answer)),
        ("Weights", weight_rows(answer.get("tensors") or [], answer.get("details") or {})),
        ("Capabilities", [[str(name)] for name in answer.get("capabilities") or ()]),
        ("Projector", projector_rows(answer.get("projector_info") or {})),
        ("Parameters", [row for line in str(answer.get("parameters") or "").splitlines() if (row := line.split())]),
    ]
    if verbose:
        info = answer.get("model_info") or {}
        tensors = answer.get("tensors") or ()
        blocks.append(("Metadata", [[name, value_text(info[name])] for name in sorted(info)]))
        blocks.append(("Tensors", [[t["name"], t["type"], f"[{' '.join(map(str, t['shape']))}]"] for t in tensors]))
    blocks.append(("System", head(str(answer.get("system") or ""))))
    blocks.append(("License", head(str(answer.get("license") or ""))))
    return "".join(f"  {title}\n{table([], rows, INDENT)}\n" for title, rows in blocks if rows)


def model_rows(answer: dict[str, Any]) -> Rows:
    details, info = answer.get("details") or {}, answer.get("model_info") or {}
    if not info:
        found = {"architecture": details.get("family"), "parameters": details.get("parameter_size")}
        context = embedding = None
    else:
        architecture = info.get("general.architecture", "")
        count = details.get("parameter_size") or info.get("general.parameter_count")
        found = {"architecture": architecture, "parameters": count}
        context, embedding = (info.get(f"{architecture}.{key}") for key in ("context_length", "embedding_length"))
    found |= {
        "context length": context,
        "embedding length": embedding,
        "quantization": details.get("quantization_level"),
        "requires": answer.get("requires"),
    }
    remote = {"Remote model": answer.get("remote_model"), "Remote URL": answer.get("remote_host")}
    return [[name, str(value)] for name, value in (remote | found).items() if value]


def weight_rows(tensors: list[dict[str, Any]], details: dict[str, Any]) -> Rows:
    """What they are stored as; by the tensors, for the name of a file's type promises more than it keeps."""
    if not tensors or any(tensor["type"] not in STORED for tensor in tensors):
        return []
    types = Counter(tensor["type"] for tensor in tensors)
    size, bits = bits_per_weight((tensor["type"], prod(tensor["shape"])) for tensor in tensors)
    rows = [
        ["size", f"{human_bytes(size)}, {bits:.2f} bits per weight"],
        ["tensors", ", ".join(f"{name} {count}" for name, count in types.most_common())],
    ]
    kind = str(details.get("quantization_level") or "")
    sized = [Sized(t["name"], t["shape"][0], t["type"], len(t["shape"])) for t in tensors]
    if instead := substitutes(kind, sized):
        rows.append(["remark", substitutes_text(kind, instead, len(tensors))])
    return rows


def projector_rows(info: dict[str, Any]) -> Rows:
    architecture = info.get("general.architecture", "")
    found = {
        "architecture": architecture,
        "parameters": info.get("general.parameter_count"),
        "embedding length": info.get(f"{architecture}.vision.embedding_length"),
        "dimensions": info.get(f"{architecture}.vision.projection_dim"),
    }
    return [[name, str(value)] for name, value in found.items() if value]


def value_text(value: object) -> str:
    """One line; of a list only its first items."""
    if isinstance(value, list):
        items = ", ".join(str(item) for item in value[:VALUES_SHOWN])
        return f"[{items}, ...+{len(value) - VALUES_SHOWN} more]" if len(value) > VALUES_SHOWN else f"[{items}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "[]" if value is None else str(value).replace("\n", "\\n")


def head(text: str) -> Rows:
    """The first lines that say something, and `...` when there are more."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [[line] for line in lines[:LINES_SHOWN]] + ([["..."]] if len(lines) > LINES_SHOWN else [])
