"""The tree of a Go template: immutable nodes, and walks over them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Dot:
    pass


@dataclass(frozen=True, slots=True)
class Field:
    """``.A.B``"""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """``$x.A.B``; ``$`` is the root."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identifier:
    """A function."""

    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """``(pipe).A.B``"""

    base: Term
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    args: tuple[Term, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Pipe:
    """``$a, $b := command | command``; ``assign`` for ``=``."""

    commands: tuple[Command, ...]
    names: tuple[str, ...] = ()
    assign: bool = False


Term = Literal | Dot | Field | Variable | Identifier | Chain | Pipe


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """``keyword`` is if, with or range."""

    keyword: str
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Jump:
    """``keyword`` is break or continue."""

    keyword: str


@dataclass(frozen=True, slots=True)
class Include:
    name: str
    pipe: Pipe | None


Node = Text | Action | Branch | Jump | Include


def walk(nodes: Collection[Node]) -> Iterator[Node]:
    """Every node, parents first, in the order of the source."""
    for node in nodes:
        yield node
        if isinstance(node, Branch):
            yield from walk(node.body)
            yield from walk(node.otherwise)


def pipes(nodes: Collection[Node]) -> Iterator[Pipe]:
    for node in walk(nodes):
        if isinstance(node, Action | Branch | Include) and node.pipe is not None:
            yield node.pipe


def terms(pipe: Pipe) -> Iterator[Term]:
    """Every operand of a pipe, those in parentheses too."""
    for command in pipe.commands:
        for arg in command.args:
            inner = arg
            while isinstance(inner, Chain):
                yield inner
                inner = inner.base
            if isinstance(inner, Pipe):
                yield from terms(inner)
            else:
                yield inner
