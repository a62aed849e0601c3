"""Go text/template, as far as TEMPLATE layers use it: parse, render, and ask what a template is able to.

Missing keys are empty, not errors. ``TemplateError`` carries Go's texts. A template is foreign code: its depth, its
steps and its output are bounded here; its time is the caller's concern.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelfiles.errors import TemplateError
from modelfiles.gotemplate_parse import parse
from modelfiles.gotemplate_tree import (
    Action,
    Branch,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Include,
    Jump,
    Literal,
    Node,
    Pipe,
    Term,
    Text,
    Variable,
    pipes,
    terms,
    walk,
)
from modelfiles.gotemplate_values import DATES, FUNCTIONS, CallError, Struct, call, show, truth

MAX_SOURCE = 2**20
MAX_OUTPUT = 16 * 2**20
MAX_STEPS = 1_000_000
MAX_INCLUDES = 50
NAMES = frozenset({*FUNCTIONS, *DATES})


@dataclass(frozen=True, slots=True)
class Template:
    source: str
    root: tuple[Node, ...]
    defined: Mapping[str, tuple[Node, ...]]

    @classmethod
    def parse(cls, source: str) -> Template:
        if len(source) > MAX_SOURCE:
            raise TemplateError(f"template: :1: the template is over {MAX_SOURCE} characters")
        return cls(source, *parse(source, NAMES))

    def render(self, data: Mapping[str, Any], *, today: datetime.date | None = None, up_to: str = "") -> str:
        """``up_to`` names a field (``Response``): everything behind its first use is left out."""
        root = _cut(self.root, up_to)[0] if up_to else self.root
        run = _Run(self, data, today or datetime.datetime.now().astimezone().date())
        try:
            run.walk(data, root)
        except RecursionError:
            raise TemplateError("template: :1: nested too deeply") from None
        return "".join(run.output)

    # -- what the template is able to

    def variables(self) -> frozenset[str]:
        """Every field and variable name, in lower case."""
        names: set[str] = set()
        for nodes in (self.root, *self.defined.values()):
            for pipe in pipes(nodes):
                names.update(pipe.names)
                for term in terms(pipe):
                    names.update(_names(term))
        return frozenset(name.lower() for name in names)

    def thinking_tags(self) -> tuple[str, str] | None:
        """The texts around ``{{ .Thinking }}`` inside ``range .Messages``."""
        tags = None
        for loop in walk(self.root):
            if isinstance(loop, Branch) and loop.keyword == "range" and _uses(loop.pipe, "Messages"):
                tags = _around_thinking(loop.body) or tags
        return tags

    def tool_marker(self) -> str | None:
        """What stands before a tool call: the first text of the block guarded by ``.ToolCalls``, ``{`` if none."""
        if "toolcalls" not in self.variables():
            return None
        guards = [n for n in walk(self.root) if isinstance(n, Branch) and _uses(n.pipe, "ToolCalls")]
        guards.sort(key=lambda node: node.keyword != "if")  # stable: in the order of the source
        for guard in guards[:1]:
            texts = (n.text.replace("\r\n", "\n").strip() for n in walk(guard.body) if isinstance(n, Text))
            return next(filter(None, texts), "").partition("{")[0].strip() or "{"
        return "{"


def _names(term: Term) -> tuple[str, ...]:
    match term:
        case Field():
            return term.names
        case Variable():
            return (term.name, *term.names)
        case Chain():
            return term.names
        case _:
            return ()


def _uses(pipe: Pipe, name: str) -> bool:
    return any(name in _names(term) for term in terms(pipe))


def _around_thinking(nodes: Sequence[Node]) -> tuple[str, str] | None:
    """First and last text of the nearest list that prints ``.Thinking``; other loops have their own."""
    tags = None
    for node in nodes:
        if isinstance(node, Branch) and node.keyword != "range":
            tags = _around_thinking(node.body) or _around_thinking(node.otherwise) or tags
        elif isinstance(node, Action) and any(_names(term)[:1] == ("Thinking",) for term in terms(node.pipe)):
            first, last = nodes[0], nodes[-1]
            opening = first.text.strip() if isinstance(first, Text) else ""
            closing = last.text.strip() if isinstance(last, Text) else ""
            if opening and closing:
                tags = opening, closing
    return tags


def _cut(nodes: Sequence[Node], name: str) -> tuple[tuple[Node, ...], bool]:
    """``nodes`` up to the first action that prints ``name``, and whether there was one."""
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Branch):
            body, found = _cut(node.body, name)
            otherwise, found = ((), True) if found else _cut(node.otherwise, name)
            kept.append(Branch(node.keyword, node.pipe, body, otherwise))
        else:
            kept.append(node)
            found = isinstance(node, Action) and _uses(node.pipe, name)
        if found:
            return tuple(kept), True
    return tuple(kept), False


class _Run:
    """One execution. ``variables`` is a stack: a block's own are dropped at its end."""

    def __init__(self, template: Template, data: Mapping[str, Any], today: datetime.date) -> None:
        self.output: list[str] = []
        self._template = template
        self._today = today
        self._size = 0
        self._steps = 0
        self._includes = 0
        self._variables: list[tuple[str, Any]] = [("$", data)]

    # -- nodes

    def walk(self, dot: Any, nodes: Sequence[Node]) -> str:
        """``break`` or ``continue`` where one of them ended the walk."""
        for node in nodes:
            self._step()
            if isinstance(node, Text):
                self._write(node.text)
            elif isinstance(node, Action):
                value = self._pipe(dot, node.pipe)
                if not node.pipe.names:
                    self._write(show(value, "<no value>"))
            elif isinstance(node, Branch):
                mark = len(self._variables)
                jump = self._range(dot, node) if node.keyword == "range" else self._branch(dot, node)
                del self._variables[mark:]
                if jump:
                    return jump
            elif isinstance(node, Include):
                self._include(dot, node)
            elif isinstance(node, Jump):
                return node.keyword
        return ""

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TemplateError("template: :1: the template takes too many steps")

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_OUTPUT:
            raise TemplateError(f"template: :1: the output is over {MAX_OUTPUT} characters")
        self.output.append(text)

    def _branch(self, dot: Any, node: Branch) -> str:
        value = self._pipe(dot, node.pipe)
        if truth(value):
            return self.walk(value if node.keyword == "with" else dot, node.body)
        return self.walk(dot, node.otherwise)

    def _range(self, dot: Any, node: Branch) -> str:
        value = self._pipe(dot, Pipe(node.pipe.commands))
        items = self._items(value, node.pipe)
        empty = True
        mark = len(self._variables)
        for key, item in items:
            empty = False
            self._step()
            names = node.pipe.names
            bound = (item,) if len(names) == 1 else (key, item)
            if node.pipe.assign:
                for name, each in zip(names, bound, strict=False):
                    self._assign(name, each)
            else:
                self._variables.extend(zip(names, bound, strict=False))
            jump = self.walk(item, node.body)
            del self._variables[mark:]
            if jump == "break":
                break
        return self.walk(dot, node.otherwise) if empty else ""

    def _items(self, value: Any, pipe: Pipe) -> Any:
        if isinstance(value, Mapping):
            return sorted(value.items())
        if isinstance(value, list | tuple):
            return enumerate(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return ((n, n) for n in range(value))
        if value is None:
            return ()
        raise self._failure(pipe.commands[0], f"range can't iterate over {show(value)[:80]}")

    def _include(self, dot: Any, node: Include) -> None:
        body = self._template.defined.get(node.name)
        if body is None:
            raise TemplateError(f'template: :1: template "{node.name}" not defined')
        value = self._pipe(dot, node.pipe) if node.pipe else None
        self._includes += 1
        if self._includes > MAX_INCLUDES:
            raise TemplateError("template: :1: exceeded maximum template depth")
        saved, self._variables = self._variables, [("$", value)]
        self.walk(value, body)
        self._variables = saved
        self._includes -= 1

    # -- values

    def _pipe(self, dot: Any, pipe: Pipe) -> Any:
        value: tuple[Any, ...] = ()
        for command in pipe.commands:
            try:
                value = (self._command(dot, command, value),)
            except CallError as error:
                raise self._failure(command, str(error)) from None
        for name in pipe.names:
            if pipe.assign:
                self._assign(name, value[0])
            else:
                self._variables.append((name, value[0]))
        return value[0]

    def _assign(self, name: str, value: Any) -> None:
        for at in range(len(self._variables) - 1, -1, -1):
            if self._variables[at][0] == name:
                self._variables[at] = (name, value)
                return

    def _command(self, dot: Any, command: Command, final: tuple[Any, ...]) -> Any:
        head = command.args[0]
        if isinstance(head, Identifier):
            return self._call(dot, head.name, command.args[1:], final)
        if len(command.args) > 1 or final:
            raise CallError("can't give argument to non-function")
        if isinstance(head, Literal) and head.value is None:
            raise CallError("nil is not a command")
        return self._term(dot, head)

    def _call(self, dot: Any, name: str, args: Sequence[Term], final: tuple[Any, ...]) -> Any:
        self._step()
        if name in DATES:
            return (self._today - datetime.timedelta(days=DATES[name])).isoformat()
        values = []
        for arg in args:
            values.append(self._term(dot, arg))
            if name in ("and", "or") and truth(values[-1]) == (name == "or"):
                return values[-1]
        return call(name, [*values, *final])

    def _term(self, dot: Any, term: Term) -> Any:
        match term:
            case Field():
                return _descend(dot, term.names)
            case Variable():
                return _descend(self._lookup(term.name), term.names)
            case Literal():
                return term.value
            case Identifier():
                return self._call(dot, term.name, (), ())
            case Dot():
                return dot
            case Chain():
                return _descend(self._term(dot, term.base), term.names)
            case Pipe():
                return self._pipe(dot, term)

    def _lookup(self, name: str) -> Any:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise CallError(f"undefined variable: {name}")

    def _failure(self, command: Command, text: str) -> TemplateError:
        """With the place, as Go shows it: the column counts from 0."""
        source = self._template.source
        line = source.count("\n", 0, command.at) + 1
        column = command.at - (source.rfind("\n", 0, command.at) + 1)
        shown = source[command.at : command.at + 60].partition("}}")[0].rstrip(" -")
        shown = f"{shown[:20]}..." if len(shown) > 20 else shown
        return TemplateError(f'template: :{line}:{column}: executing "" at <{shown}>: {text}')


def _descend(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        if isinstance(value, Struct):
            value = value.fields.get(name)
        elif isinstance(value, Mapping):
            value = value.get(name)
        elif value is None:
            raise CallError(f"nil pointer evaluating interface {{}}.{name}")
        else:
            raise CallError(f"can't evaluate field {name} in type {type(value).__name__}")
    return value
