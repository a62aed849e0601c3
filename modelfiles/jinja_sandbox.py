"""The Jinja environment that chat templates run in: a sandbox in which nothing can be made endlessly big.

Templates come with a model file and are foreign code. What this cannot bound is time (loops in loops): whoever renders
does so in a process that may be killed. Importing this module imports jinja2; ``jinja.py`` does so on first use.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, NoReturn

from jinja2 import Environment, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateRuntimeError, UndefinedError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined, str_join
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import Namespace

MAX_TEXT = 16 * 2**20
MAX_REPEAT = 2**20  # characters or items that one ``*`` may make
MAX_BITS = 4096
MAX_WIDTH = 4096
MAX_COLUMN = 9999
MAX_DIGITS = 308
# Bytes know none of these limits, one character may be translated to a million, and a number is no text.
UNSAFE_METHODS = frozenset({"encode", "translate", "maketrans", "to_bytes", "from_bytes"})
LISTS: tuple[type[Collection[Any]], ...] = (list, tuple, type({}.keys()), type({}.values()), type({}.items()))
PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
# What may stand between ``%`` and its letter, with five digits or a width from the values; or a name with brackets,
# behind which these two could hide.
WIDE_PERCENT = re.compile(r"%(?:\([^()]*\))?[^a-zA-Z%(]*(?:[0-9]{5}|\*)|%\([^()]*\(")
COLUMN = re.compile(r"%(?:\([^()]*\))?[^a-zA-Z%(]*[0-9]")
WIDTH = re.compile(r":[^{}]*[0-9]")
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

    intercepted_binops = frozenset({"*", "**", "%", "+", "//"})
    code_generator_class = Generator

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationTag],
            cache_size=0,
            optimized=False,  # nothing is computed while the template is compiled
            finalize=printed,
        )
        self.filters["tojson"] = tojson
        for name in FILTERS:
            self.filters[name] = _bounded_filter(name, self.filters[name])
        self.globals.pop("lipsum", None)
        self.globals["raise_exception"] = raise_exception

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in UNSAFE_METHODS and super().is_safe_attribute(obj, attr, value)

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
            _check_format(left, right)
        elif operator in ("%", "//") and isinstance(left, int) and isinstance(right, int):
            _check_bits(left)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja2's
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            if name == "join" and args and not isinstance(args[0], list):
                args = (list(args[0]), *args[1:])  # its length can be seen now
            _check_method(owner, name, (*args, *kwargs.values()))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        return wrapped and _bounded_format(str(getattr(value, "__self__", "")), wrapped)


def _check(size: int) -> None:
    if size > MAX_TEXT:
        raise SecurityError("a text that is too long")


def weight(value: Any) -> int:
    """About the characters that ``value`` makes as text; a list may hold one thing a million times, and so on."""
    total = 8
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, LISTS):
            total += 8 * len(item)
            stack.extend(item)
        elif isinstance(item, dict):
            total += 16 * len(item)
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, Namespace):
            stack.append(object.__getattribute__(item, "_Namespace__attrs"))
        else:
            continue
        _check(total)
    return total


def weighed(value: Any) -> Any:
    """``value``, unless its text would be too long."""
    if not isinstance(value, str | int | float):
        weight(value)
    return value


def depth(value: Any) -> int:
    """How many lists and dicts are in each other, at most; only of what ``weight`` let pass."""
    deepest, layer = 0, [value]
    while layer:
        deepest += 1
        layer = [
            child
            for node in layer
            if isinstance(node, dict | list | tuple)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return deepest


@pass_context  # which also keeps the compiler from printing constants into the code
def printed(_: Context, value: Any) -> Any:
    return weighed(value)


def _bounded_format(form: str, wrapped: Callable[..., str]) -> Callable[..., str]:
    """``form.format``, which may print each of its values in each of its fields."""
    if WIDE_BRACES.search(form):
        raise SecurityError("a format that is too wide")

    def bounded(*args: Any, **kwargs: Any) -> str:
        _check(form.count("{") * (weight([args, kwargs]) + (MAX_COLUMN if WIDTH.search(form) else 0)))
        return wrapped(*args, **kwargs)

    return bounded


def _check_bits(number: int) -> None:
    if number.bit_length() > MAX_BITS:
        raise SecurityError("a number that is too big")


def _check_format(form: str, values: Any) -> None:
    """``form % values``: of a tuple each is printed once, anything else as often as there is a ``%``."""
    if WIDE_PERCENT.search(form):
        raise SecurityError("a format that is too wide")
    times, size = form.count("%"), weight(values)
    column = MAX_COLUMN if COLUMN.search(form) else 0
    _check(len(form) + times * column + (size if isinstance(values, tuple) else times * size))


def _check_product(left: Any, right: Any) -> None:
    for items, count in ((left, right), (right, left)):
        if isinstance(items, str | list | tuple) and isinstance(count, int) and len(items) * count > MAX_REPEAT:
            raise SecurityError("a repetition that is too long")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise SecurityError("a product that is too big")


def _check_method(owner: str, name: str, args: tuple[Any, ...]) -> None:
    if name in PADDING:
        widest = max((arg for arg in args if isinstance(arg, int)), default=8)
        _check_width(widest)
        _check(owner.count("\t") * widest if name == "expandtabs" else 0)
    if name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        _check(len(owner) + owner.count(args[0]) * len(args[1]))
    if name == "join" and args:
        _check(weight(args[0]) + len(args[0]) * len(owner))


def _check_width(number: Any, most: int = MAX_WIDTH) -> None:
    if isinstance(number, int) and abs(number) > most:
        raise SecurityError("padding that is too wide")


def _bounded_filter(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    """``inner`` behind a check of its arguments. Its marks (pass_environment …) stay."""
    first = int(hasattr(inner, "jinja_pass_arg"))
    check = FILTERS[name]

    def bounded(*args: Any, **kwargs: Any) -> Any:
        value: Any = args[first] if len(args) > first else None
        if name == "join" and not isinstance(value, str | list):
            value = list(value)  # its length can be seen now
            args = (*args[:first], value, *args[first + 1 :])
        check(value, [*args[first + 1 :], *kwargs.values()])
        weighed(value)
        result = inner(*args, **kwargs)
        _check(len(result) if isinstance(result, str) else 0)
        return result

    bounded.__dict__.update(inner.__dict__)
    return bounded


def _texts(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _nothing_more(value: Any, given: list[Any]) -> None:
    """The text of the value is all that there is."""


def _numbers(most: int) -> Callable[[Any, list[Any]], None]:
    def check(value: Any, given: list[Any]) -> None:
        for number in given:
            _check_width(number, most)

    return check


def _between(value: Any, given: list[Any]) -> None:
    """The given texts may stand behind each item, or character, of the value."""
    count = len(value) if isinstance(value, str | list) else 1
    _check(count * (1 + sum(map(len, _texts(given)))))


def _indent(value: Any, given: list[Any]) -> None:
    for width in given:
        _check_width(width)
        size = len(width) if isinstance(width, str) else int(width) if isinstance(width, int) else 0
        _check(str(value).count("\n") * size)


def _replace(value: Any, given: list[Any]) -> None:
    texts = _texts(given)
    if len(texts) > 1:
        text = str(value)
        _check(len(text) + text.count(texts[0]) * len(texts[1]))


def _format(value: Any, given: list[Any]) -> None:
    """Jinja hands on the names of the call as a dict, else the values as a tuple; as a list they weigh most."""
    _check_format(str(value), tuple(given) if len(given) > 1 else given)


def _sum(value: Any, given: list[Any]) -> None:
    """Of numbers: what a list of lists costs grows with the square of its length."""
    if any(isinstance(item, list | tuple) for item in given):
        raise SecurityError("a sum of lists")


def _int(value: Any, given: list[Any]) -> None:
    if isinstance(value, str) and len(value) > MAX_BITS // 4:
        raise SecurityError("a number that is too big")


# filter → what is looked at, besides its value, before it runs
FILTERS: dict[str, Callable[[Any, list[Any]], None]] = {
    **dict.fromkeys(("string", "safe", "escape", "e", "forceescape", "pprint", "xmlattr"), _nothing_more),
    **dict.fromkeys(("join", "wordwrap", "urlize"), _between),
    "center": _numbers(MAX_WIDTH),
    "batch": _numbers(MAX_REPEAT),
    "round": _numbers(MAX_DIGITS),
    "indent": _indent,
    "replace": _replace,
    "format": _format,
    "sum": _sum,
    "int": _int,
}


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
    size = weight(value)
    if indent is not None:
        if not isinstance(indent, int) or indent > 64:
            raise SecurityError("an indent that is too wide")
        _check(size // 8 * depth(value) * indent)
    if separators and any(len(str(text)) > 16 for text in separators):
        raise SecurityError("separators that are too long")
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
    return weighed(list(value))  # templates feed it what a filter such as ``map`` generates


def clock(now: datetime.datetime) -> dict[str, Any]:
    """The variables with which templates ask for the date."""
    return {
        "strftime_now": lambda form: now.strftime(str(form)[:200]),
        "date_string": now.strftime("%d %b %Y"),
        "datetime": now.strftime("%b %d %Y"),
    }


def environment() -> Environment:
    return Sandbox()
