"""Parameter values as a person types them → values as a request carries them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.cli.errors import CliError
from server.errors import ServerError
from server.options import OPTIONS, parse

BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def from_text(name: str, values: Sequence[str]) -> Any:
    """``values``: what was written behind the name; more than one only for lists. CliError with Ollama's texts."""
    option = OPTIONS.get(name)
    if option is None or option.kind == "biases":
        raise CliError(f"unknown parameter '{name}'")
    if option.kind in ("array", "floats"):
        value: Any = [_number(v, float) if option.kind == "floats" else v for v in values]
    elif len(values) != 1:
        raise CliError(f"parameter '{name}' takes one value")
    else:
        value = _single(option.kind, values[0])
    try:
        parse({name: value})
    except ServerError as error:
        raise CliError(error.message) from error
    return value


def _single(kind: str, text: str) -> Any:
    if kind == "integer":
        return _number(text, int)
    if kind == "float32":
        return _number(text, float)
    if kind == "boolean":
        if text.lower() not in BOOLEANS:
            raise CliError(f"invalid bool value [{text}]")
        return BOOLEANS[text.lower()]
    return text


def _number(text: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise CliError(f"invalid {kind.__name__} value [{text}]") from None
