"""The Jinja environment that chat templates run in: a sandbox in which nothing can be made endlessly big.

Templates come with a model file and are foreign code. What this cannot bound is time (loops in loops): whoever renders
does so in a process that may be killed. Importing this module imports jinja2; ``jinja.py`` does so on first use.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from jinja2 import Environment, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateRuntimeError, UndefinedError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined, str_join
from jinja2.sandbox import SandboxedEnvironment

MAX_TEXT = 16 * 2**20
MAX_REPEAT = 2**20  # characters or items that one ``*`` may make
MAX_BITS = 4096
MAX_WIDTH = 4096
PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:[0-9]{5}|\*)")
WIDE_BRACES = re.compile(r"\{[^{}]*:[^{}]*(?:[0-9]{5}|\{)")


class RaisedByTemplate(TemplateRuntimeError):
    """``raise_exception`` was called: the template itself refuses this conversation."""


class Generator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - jinja2's name
        self.write("environment.joined((")
        for arg in node.nodes:
            self.visit(arg, frame)
            self.write(", ")
        self.write("))")


class GenerationTag(Extension):
    """``{% generation %}`` marks what an assistant wrote, for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's declaration

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class Sandbox(SandboxedEnvironment):
    """Mutable on purpose: templates append to lists. They get copies."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})
    code_generator_class = Generator

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationTag],
            cache_size=0,
            finalize=weighed,
        )
        self.filters["tojson"] = tojson
        for name in ("center", "indent", "replace", "join", "format", "string", "safe", "escape", "e", "pprint"):
            self.filters[name] = _bounded_filter(name, self.filters[name])
        self.globals.pop("lipsum", None)
        self.globals["raise_exception"] = raise_exception

    def joined(self, parts: Iterable[Any]) -> str:
        """``a ~ b``"""
        return str_join(weighed(list(parts)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            _check(len(left) + len(right))
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * abs(right) > MAX_BITS:
                raise SecurityError("a power that is too big")
        elif operator == "%" and isinstance(left, str):
            _check(len(left) + left.count("%") * weight(right))
            if WIDE_PERCENT.search(left):
                raise SecurityError("a format that is too wide")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja2's
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            _check_method(owner, name, args)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None and WIDE_BRACES.search(str(getattr(value, "__self__", ""))):
            raise SecurityError("a format that is too wide")
        return wrapped


def _check(size: int) -> None:
    if size > MAX_TEXT:
        raise SecurityError("a text that is too long")


def weight(value: Any) -> int:
    """About the characters that ``value`` makes as text; a list may hold one thing a million times, and so on."""
    total = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item) + 8
        elif isinstance(item, dict):
            total += 8
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            total += 8
            stack.extend(item)
        else:
            total += 8
        _check(total)
    return total


def weighed(value: Any) -> Any:
    """``value``, unless its text would be too long."""
    if isinstance(value, dict | list | tuple):
        weight(value)
    return value


def _check_product(left: Any, right: Any) -> None:
    for items, count in ((left, right), (right, left)):
        if isinstance(items, str | list | tuple) and isinstance(count, int) and len(items) * count > MAX_REPEAT:
            raise SecurityError("a repetition that is too long")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise SecurityError("a product that is too big")


def _check_method(owner: str, name: str, args: tuple[Any, ...]) -> None:
    if name in PADDING and any(isinstance(arg, int) and arg > MAX_WIDTH for arg in args):
        raise SecurityError("padding that is too wide")
    if name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        _check(len(owner) + owner.count(args[0]) * len(args[1]))
    if name == "join" and args and isinstance(args[0], list | tuple):
        _check(weight(args[0]) + len(args[0]) * len(owner))


def _bounded_filter(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    """``inner`` behind a check of its arguments. Its marks (pass_environment …) stay."""

    def bounded(*args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        texts = [value for value in values if isinstance(value, str)]
        if name in ("center", "indent") and any(isinstance(v, int) and v > MAX_WIDTH for v in values):
            raise SecurityError("padding that is too wide")
        if name == "format" and any(WIDE_PERCENT.search(text) for text in texts[:1]):
            raise SecurityError("a format that is too wide")
        if name == "replace" and len(texts) > 2:
            _check(len(texts[0]) + texts[0].count(texts[1]) * len(texts[2]))
        for value in values:
            if isinstance(value, list | tuple):
                _check(weight(value) + len(value) * max(map(len, texts), default=0))
            weighed(value)
        result = inner(*args, **kwargs)
        _check(len(result) if isinstance(result, str) else 0)
        return result

    bounded.__dict__.update(inner.__dict__)
    return bounded


def raise_exception(message: Any = "") -> NoReturn:
    raise RaisedByTemplate(str(message)[:1000])


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: Jinja's own filter escapes HTML."""
    if isinstance(indent, int) and indent > 64:
        raise SecurityError("an indent that is too wide")
    weighed(value)
    return json.dumps(
        value,
        ensure_ascii=bool(ensure_ascii),
        indent=indent,
        separators=(separators[0], separators[1]) if separators else None,
        sort_keys=bool(sort_keys),
        default=_plain,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Undefined):
        raise UndefinedError("tojson of something undefined")
    return list(value)  # templates feed it what a filter such as ``map`` generates


def clock(now: datetime.datetime) -> dict[str, Any]:
    """The variables with which templates ask for the date."""
    return {
        "strftime_now": lambda form: now.strftime(str(form)[:200]),
        "date_string": now.strftime("%d %b %Y"),
        "datetime": now.strftime("%b %d %Y"),
    }


def environment() -> Environment:
    return Sandbox()
