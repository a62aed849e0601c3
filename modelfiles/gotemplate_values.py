"""Values inside a Go template: their truth, how they print, and the functions that templates may call.

Plain data only (None, bool, int, float, str, lists, dicts) plus three shapes that Ollama's own types have: structs, and
lists and objects that print as JSON. Failures are ``CallError``; the executor adds where they happened.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote_plus

MAX_TEXT = 16 * 2**20
MAX_WIDTH = 10_000


class CallError(ValueError):
    """A function or a value did not take what it was given."""


@dataclass(frozen=True, slots=True)
class Struct:
    """``fields`` by their Go names; ``wire`` is the JSON form, in the order of the struct. Prints as JSON."""

    fields: Mapping[str, Any]
    wire: Mapping[str, Any]


class JSONObject(dict[str, Any]):
    """An object whose key order is kept and that prints as JSON (arguments of a call, properties of a tool)."""


class JSONArray(list[Any]):
    """A list that prints as JSON (the tools)."""


def truth(value: Any) -> bool:
    return True if isinstance(value, Struct) else bool(value)


# -- printing ---------------------------------------------------------------------------------------------


def go_json(value: Any) -> str:
    """Compact JSON as Go writes it: ``<``, ``>`` and ``&`` escaped, keys of plain maps sorted."""
    match value:
        case Struct():
            return go_json(JSONObject(value.wire))
        case Mapping():
            keys = value if isinstance(value, JSONObject) else sorted(value)
            return "{" + ",".join(f"{_json_string(str(key))}:{go_json(value[key])}" for key in keys) + "}"
        case list() | tuple():
            return "[" + ",".join(map(go_json, value)) + "]"
        case str():
            return _json_string(value)
        case float():
            if not math.isfinite(value):
                raise CallError(f"json: unsupported value: {go_float(value)}")
            return go_float(value, 1e-6, 1e21).replace("e-0", "e-")
        case _:
            return json.dumps(value)


def _json_string(text: str) -> str:
    text = json.dumps(text, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def go_float(value: float, low: float = 1e-4, high: float = 1e6) -> str:
    """Shortest digits, with an exponent below ``low`` and from ``high`` on; the defaults are those of ``%v``."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if value and not low <= abs(value) < high:
        digits, _, exponent = f"{Decimal(repr(value)):e}".partition("e")
        digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
        return f"{digits}e{exponent[0]}{int(exponent[1:]):02d}"
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def show(value: Any, nothing: str = "<nil>") -> str:
    """``value`` as ``%v`` prints it; an action prints a missing value as ``<no value>``."""
    match value:
        case str():
            return value
        case None:
            return nothing
        case bool():
            return "true" if value else "false"
        case float():
            return go_float(value)
        case Struct() | JSONObject() | JSONArray():
            return go_json(value)
        case Mapping():
            return "map[" + " ".join(f"{show(k)}:{show(v)}" for k, v in sorted(value.items())) + "]"
        case list() | tuple():
            return "[" + " ".join(map(show, value)) + "]"
        case _:
            return str(value)


VERB = re.compile(r"%([-+ #0]*)(\*|[0-9]*)(?:\.([0-9]*))?(.?)", re.DOTALL)


def printf(form: Any, *args: Any) -> str:
    if not isinstance(form, str):
        raise CallError(f"wrong type for value; expected string; got {kind(form)}")
    rest = list(args)
    text = VERB.sub(lambda found: _verb(found, rest), form)
    if rest:
        text += "%!(EXTRA " + ", ".join(f"{kind(arg)}={show(arg)}" for arg in rest) + ")"
    return text


def _verb(found: re.Match[str], rest: list[Any]) -> str:
    flags, width, precision, verb = found.groups()
    if verb == "%":
        return "%"
    if not verb:
        return "%!(NOVERB)"
    if width == "*" or len(width) > 5 or int(width or 0) > MAX_WIDTH or len(precision or "") > 3:
        return "%!(BADWIDTH)"
    if not rest:
        return f"%!{verb}(MISSING)"
    text = _formatted(verb, flags, precision, rest.pop(0))
    fill = "0" if "0" in flags and "-" not in flags and verb in "dfgeox" else " "
    if fill == "0" and text[:1] in ("-", "+"):
        return text[0] + text[1:].rjust(int(width or 0) - 1, "0")
    return text.ljust(int(width or 0)) if "-" in flags else text.rjust(int(width or 0), fill)


def _formatted(verb: str, flags: str, precision: str | None, value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    plus = "+" if "+" in flags and number and value >= 0 else ""
    match verb:
        case "v" | "s":
            if verb == "s" and (number or isinstance(value, bool)):
                return f"%!s({kind(value)}={show(value)})"
            text = show(value)
            return text if precision is None or not isinstance(value, str) else text[: int(precision or 0)]
        case "q" if isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        case "T":
            return kind(value)
        case "t" if isinstance(value, bool):
            return show(value)
        case "d" if number and isinstance(value, int):
            return plus + str(value)
        case "f" | "g" | "e" if isinstance(value, float):
            return plus + (go_float(value) if verb == "g" else f"{value:.{int(precision or 6)}{verb}}")
        case "x" | "X" if isinstance(value, str) or (number and isinstance(value, int)):
            text = value.encode().hex() if isinstance(value, str) else f"{value:x}"
            return text.upper() if verb == "X" else text
        case "c" if number and isinstance(value, int) and 0 <= value <= 0x10FFFF:
            return chr(value)
    return f"%!{verb}({kind(value)}={show(value)})"


def kind(value: Any) -> str:
    """The Go type that ``value`` stands for."""
    for python, name in ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (Mapping, "map")):
        if isinstance(value, python):
            return name
    return "<nil>" if value is None else "slice" if isinstance(value, list | tuple) else "struct"


# -- functions --------------------------------------------------------------------------------------------


def equal(first: Any, *others: Any) -> bool:
    return any(_same(first, other) for other in others)


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _less(a: Any, b: Any) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        return a < b
    if isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool) | isinstance(b, bool):
        return a < b
    raise CallError("incompatible types for comparison")


def length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Sequence | Mapping):
        return len(value)
    raise CallError(f"len of type {kind(value)}")


def index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, str | list | tuple):
            items = value.encode() if isinstance(value, str) else value
            value = items[_position(key, len(items) - 1)]
        else:
            raise CallError(f"can't index item of type {kind(value)}")
    return value


def part(value: Any, *bounds: Any) -> Any:
    """``slice``: of a string its bytes."""
    if not isinstance(value, str | list | tuple):
        raise CallError(f"can't slice item of type {kind(value)}")
    items = value.encode() if isinstance(value, str) else value
    low = _position(bounds[0], len(items)) if bounds else 0
    high = _position(bounds[1], len(items)) if len(bounds) > 1 else len(items)
    if low > high:
        raise CallError(f"invalid slice index: {low} > {high}")
    cut = items[low:high]
    return cut.decode("utf-8", "replace") if isinstance(cut, bytes) else cut


def _position(key: Any, last: int) -> int:
    if not isinstance(key, int) or isinstance(key, bool):
        raise CallError(f"cannot index slice/array with type {kind(key)}")
    if not 0 <= key <= last:
        raise CallError(f"index out of range: {key}")
    return key


def go_print(*args: Any) -> str:
    """Blanks between neighbours that are both no strings, as ``fmt.Sprint``."""
    text = ""
    for at, arg in enumerate(args):
        if at and not isinstance(arg, str) and not isinstance(args[at - 1], str):
            text += " "
        text += show(arg)
    return text


HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "\0": "\ufffd"}
JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _escaped(table: Mapping[str, str]) -> Callable[..., str]:
    return lambda *args: "".join(table.get(character, character) for character in go_print(*args))


TYPESCRIPT = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "array": "any[]"}
TYPESCRIPT |= {"object": "Record<string, any>", "null": "null"}


def typescript(schema: Any) -> str:
    """A tool's property as a TypeScript type."""
    fields = schema.fields if isinstance(schema, Struct) else {}
    if fields.get("AnyOf"):
        return " | ".join(typescript(option) for option in fields["AnyOf"])
    types = fields.get("Type") or ()
    types = (types,) if isinstance(types, str) else types
    return " | ".join(TYPESCRIPT.get(name, "any") for name in types) or "any"


@dataclass(frozen=True, slots=True)
class Function:
    """``most`` None = any number of arguments."""

    call: Callable[..., Any]
    least: int
    most: int | None


FUNCTIONS: Mapping[str, Function] = {
    # the executor stops at the first argument that decides
    "and": Function(lambda *args: args[-1], 1, None),
    "or": Function(lambda *args: args[-1], 1, None),
    "not": Function(lambda value: not truth(value), 1, 1),
    "eq": Function(equal, 2, None),
    "ne": Function(lambda a, b: not _same(a, b), 2, 2),
    "lt": Function(_less, 2, 2),
    "le": Function(lambda a, b: not _less(b, a), 2, 2),
    "gt": Function(lambda a, b: _less(b, a), 2, 2),
    "ge": Function(lambda a, b: not _less(a, b), 2, 2),
    "len": Function(length, 1, 1),
    "index": Function(index, 1, None),
    "slice": Function(part, 1, 3),
    "print": Function(go_print, 0, None),
    "printf": Function(printf, 1, None),
    "println": Function(lambda *args: " ".join(map(show, args)) + "\n", 0, None),
    "html": Function(_escaped(HTML), 0, None),
    "js": Function(_escaped(JS), 0, None),
    "urlquery": Function(lambda *args: quote_plus(go_print(*args)), 0, None),
    "json": Function(go_json, 1, 1),
    "toTypeScriptType": Function(typescript, 1, 1),
}
# Name → how many days before today.
DATES: Mapping[str, int] = {"currentDate": 0, "yesterdayDate": 1}


def call(name: str, args: Sequence[Any]) -> Any:
    function = FUNCTIONS[name]
    if len(args) < function.least or (function.most is not None and len(args) > function.most):
        want = f"at least {function.least}" if function.most is None else str(function.most)
        raise CallError(f"wrong number of args for {name}: want {want} got {len(args)}")
    try:
        result = function.call(*args)
    except CallError as error:
        raise CallError(f"error calling {name}: {error}") from None
    except RecursionError:
        raise CallError(f"error calling {name}: nested too deeply") from None
    if isinstance(result, str) and len(result) > MAX_TEXT:
        raise CallError(f"error calling {name}: the text is over {MAX_TEXT} characters")
    return result
