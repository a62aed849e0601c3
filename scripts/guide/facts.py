# ruff: noqa: E501 - tables of sentences
"""What `guide` knows: the facts in `facts/*.txt`, each with an answer and ways to ask for it in both languages.

A block is `[name]` and lines `key.lang = a | b`: `say` the answer, `np` noun phrases ("the port"), `do` verb phrases
("change the port"), `ask` whole questions, `held` whole questions that no training text may contain.
A `@table` line makes such blocks from rows `name | English | Spanish`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "facts"
LANGUAGES = ("en", "es")


@dataclass(slots=True)
class Fact:
    name: str
    say: dict[str, str] = field(default_factory=dict)
    np: dict[str, list[str]] = field(default_factory=lambda: {"en": [], "es": []})
    do: dict[str, list[str]] = field(default_factory=lambda: {"en": [], "es": []})
    ask: dict[str, list[str]] = field(default_factory=lambda: {"en": [], "es": []})
    held: dict[str, list[str]] = field(default_factory=lambda: {"en": [], "es": []})


@dataclass(frozen=True, slots=True)
class Table:
    """How the rows of one kind are named and answered; `{0}` is the row's name, `{1}` its text."""

    np: dict[str, list[str]]
    say: dict[str, str]
    do: dict[str, list[str]]


TABLES = {
    "command": Table(
        {"en": ["the {0} command", "llamada {0}", "the command llamada {0}", "the command {0}"], "es": ["el comando {0}", "llamada {0}", "la orden {0}"]},
        {"en": "`llamada {0}` {1}", "es": "`llamada {0}` {1}"},
        {"en": ["use llamada {0}"], "es": ["usar llamada {0}", "usar el comando {0}"]},
    ),
    "variable": Table(
        {"en": ["{0}", "the variable {0}", "the environment variable {0}", "the {0} variable"], "es": ["{0}", "la variable {0}", "la variable de entorno {0}"]},
        {"en": "{0} is an environment variable of the server: {1}", "es": "{0} es una variable de entorno del servidor: {1}"},
        {"en": ["use {0}", "set {0}"], "es": ["usar {0}", "configurar {0}"]},
    ),
    "option": Table(
        {"en": ["{0}", "the option {0}", "the {0} option", "the parameter {0}"], "es": ["{0}", "la opción {0}", "el parámetro {0}"]},
        {"en": "{0} is an option of a request or a PARAMETER: {1}", "es": "{0} es una opción de la petición o un PARAMETER: {1}"},
        {"en": ["use {0}", "set {0}", "change {0}"], "es": ["usar {0}", "poner {0}", "cambiar {0}"]},
    ),
    "route": Table(
        {"en": ["{0}", "the route {0}", "the {0} endpoint", "the endpoint {0}"], "es": ["{0}", "la ruta {0}", "el endpoint {0}"]},
        {"en": "{0} {1}", "es": "{0} {1}"},
        {"en": ["use {0}", "call {0}"], "es": ["usar {0}", "llamar a {0}"]},
    ),
    "instruction": Table(
        {"en": ["{0} in a Modelfile", "the instruction {0}", "the {0} instruction", "the {0} line of a Modelfile"], "es": ["{0} en un Modelfile", "la instrucción {0}", "la línea {0} de un Modelfile"]},
        {"en": "{0} in a Modelfile {1}", "es": "{0} en un Modelfile {1}"},
        {"en": ["use {0} in a Modelfile"], "es": ["usar {0} en un Modelfile"]},
    ),
    "slash": Table(
        {"en": ["{0}", "{0} in the chat", "the chat command {0}"], "es": ["{0}", "{0} en el chat", "el comando de chat {0}"]},
        {"en": "{0}, typed in `llamada run`, {1}", "es": "{0}, escrito en `llamada run`, {1}"},
        {"en": ["use {0}"], "es": ["usar {0}"]},
    ),
}  # fmt: skip


def load(folder: Path = FOLDER) -> list[Fact]:
    """Every fact, in file order; each has an answer in both languages and at least one way to ask."""
    facts = [fact for path in sorted(folder.glob("*.txt")) for fact in _read(path)]
    names = [fact.name for fact in facts]
    if len(set(names)) != len(names):
        raise ValueError(f"names twice: {sorted({name for name in names if names.count(name) > 1})}")
    for fact in facts:
        for lang in LANGUAGES:
            if not fact.say.get(lang) or not (fact.np[lang] or fact.do[lang] or fact.ask[lang]):
                raise ValueError(f"{fact.name}: no answer or no question in {lang}")
    return facts


def _read(path: Path) -> Iterator[Fact]:
    fact: Fact | None = None
    table = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            table = line[1:]
        elif line.startswith("["):
            if fact:
                yield fact
            fact, table = Fact(line.strip("[]")), ""
        elif table:
            yield _row(table, [part.strip() for part in line.split(" | ")])
        elif fact:
            key, _, text = line.partition(" = ")
            kind, _, lang = key.partition(".")
            if lang not in LANGUAGES or not text:
                raise ValueError(f"{path.name}:{number}: {line}")
            if kind == "say":
                fact.say[lang] = text
            else:
                getattr(fact, kind)[lang] += [part.strip() for part in text.split(" | ")]
    if fact:
        yield fact


def _row(table: str, cells: list[str]) -> Fact:
    """A row: name | English | Spanish, then optional whole questions `en: …` and `es: …`."""
    rules = TABLES[table]
    name, texts = cells[0], {"en": cells[1], "es": cells[2]}
    fact = Fact(f"{table} {name}")
    for lang in LANGUAGES:
        fact.say[lang] = rules.say[lang].format(name, texts[lang])
        fact.np[lang] = [text.format(name) for text in rules.np[lang]]
        fact.do[lang] = [text.format(name) for text in rules.do[lang]]
    for cell in cells[3:]:
        lang, _, text = cell.partition(": ")
        fact.ask[lang] += text.split(" / ")
    return fact
