"""The rules of a Lark grammar for arguments: as JSON, as text between tags, with bare keys.

A text between tags ends at the first closing tag; its schema (enum, pattern, length, format) is kept as far as a
regular expression can say it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.worker.chat.formats.literals import bare_text, python_text
from server.worker.chat.formats.row import cores, fill
from server.worker.chat.formats.schemas import Schema, is_text, resolved

WHITE_SPACE = r"[ \r\n\t]{0,22}"
MAX_LENGTH = 2000  # longer bounds cost the compiler too much and bind nobody
_DATE, _TIME = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])", r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_HOST = r"[a-z][a-z0-9]{0,20}(\.[a-z][a-z0-9]{0,20}){0,3}"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
FORMATS = {
    "date": _DATE,
    "time": f"{_TIME}Z",
    "date-time": f"{_DATE}T{_TIME}Z",
    "duration": r"P[0-9]{1,4}D",
    "email": rf"[a-z0-9._]{{0,20}}[a-z0-9]@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"({_BYTE}\.){{3}}{_BYTE}",
    "ipv6": r"([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
    "uri": rf"https?://{_HOST}(/[a-zA-Z0-9._~-]{{1,40}}){{0,8}}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
NAMES = {"integer": "number"} | {name: name for name in ("string", "boolean", "number", "array", "null")}


class Lark:
    """A grammar that grows rule by rule."""

    def __init__(self, spell: Callable[[str], Sequence[str | int]]) -> None:
        self._spell = spell
        self._rules: dict[str, str] = {}

    def text(self) -> str:
        rules = {"start": self._rules["start"], **self._rules, "ws": r"/[ \r\n\t]{1,9}/"}
        return "\n".join(f"{name}: {body}" for name, body in rules.items()) + "\n"

    def add(self, name: str, body: str) -> str:
        self._rules[name] = body.strip() or '""'
        return name

    # -- literals ---------------------------------------------------------------------------------------

    def exact(self, text: str) -> str:
        return " ".join(_quoted(part) if isinstance(part, str) else f"<[{part}]>" for part in self._spell(text))

    def loose(self, text: str) -> str:
        """``text`` with any white space for its new lines."""
        if not text.strip():
            return "ws?" if text else ""
        core = " ws? ".join(map(self._marker, cores(text)))
        before = "ws? " if text[0] == "\n" else ""
        return f"{before}{core}{' ws?' if text[-1] == chr(10) else ''}"

    def _marker(self, text: str) -> str:
        """By number, or letter by letter: vocabularies have tokens that hold a marker and its new line, too."""
        spelt = self.exact(text)
        return spelt if spelt == _quoted(text) else f"({spelt} | {_quoted(text)})"

    def quoted(self, text: str) -> str:
        """A text in JSON."""
        return _quoted(json.dumps(text, ensure_ascii=False))

    def json(self, schema: Schema) -> str:
        guided = {**schema, "x-guidance": {"whitespace_pattern": WHITE_SPACE, "lenient": True}}
        return f"%json {json.dumps(guided)}"

    # -- arguments --------------------------------------------------------------------------------------

    def tagged(self, name: str, schema: Schema, pair: tuple[str, str]) -> str:
        spelt = []
        for number, (key, inner, needed) in enumerate(_properties(schema)):
            value = resolved(schema, inner)
            said = {"key": key, "string": "true" if is_text(value) else "false", "type": _type_name(value)}
            rule = self.add(f"{name}p{number}", self._tag(f"{name.upper()}V{number}", schema, value, pair, said))
            spelt.append(rule if needed else f"{rule}?")
        return " ".join(spelt)

    def _tag(self, name: str, root: Schema, schema: Schema, pair: tuple[str, str], said: Mapping[str, str]) -> str:
        opening = fill(pair[0], **said)
        if is_text(schema):
            return f"{self.exact(opening)} {self._between(name, schema, pair[1])}"
        return f"{self.loose(opening)} ws? {self.json(_rooted(root, schema))} ws? {self.loose(pair[1])}"

    def _between(self, name: str, schema: Schema, closing: str) -> str:
        """A text and what closes it."""
        values = _listed_values(schema)
        core = cores(closing)[0]
        head, tail = closing[: closing.index(core)], closing[closing.index(core) + len(core) :]
        if values is not None:
            return f"({' | '.join(_quoted(value) for value in values)}) {self.exact(head + core)} {self.loose(tail)}"
        if self._spell(core) != [core]:
            return f"{self.add(name, _terminal(schema, head, ''))} {self.exact(core)} {self.loose(tail)}"
        return f"{self.add(name, _terminal(schema, head + core, core))} {self.loose(tail)}"

    def listed(self, name: str, schema: Schema, colon: str, comma: str, quote: str) -> str:
        """``key=value`` one after the other with commas between them; what is not required may be missing."""
        comma = f"{_quoted(comma.strip())} ws?"
        for number, (key, inner, needed) in reversed(list(enumerate(_properties(schema)))):
            value = self._notated(f"{name}x{number}", schema, inner, quote)
            pair = self.add(f"{name}p{number}", f"{self.exact(key + colon)} {value}")
            for started in (True, False):
                taken = f"{comma} {pair} {name}r{number + 1}t" if started else f"{pair} {name}r{number + 1}t"
                skipped = "" if needed else f" | {name}r{number + 1}{'t' if started else 'f'}"
                self.add(f"{name}r{number}{'t' if started else 'f'}", f"{taken}{skipped}")
        count = len(_properties(schema))
        for started in (True, False):
            self.add(f"{name}r{count}{'t' if started else 'f'}", '""')
        return f"{name}r0f"

    def _notated(self, name: str, root: Schema, schema: Schema, quote: str, depth: int = 0) -> str:
        schema = resolved(root, schema)
        if not quote:
            return self.add(name, self._python(name.upper(), root, schema))
        values = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
        if values is not None:
            return self.add(name, " | ".join(self.exact(bare_text(value, quote)) for value in values))
        options = schema.get("anyOf") or schema.get("oneOf")
        if options and depth < 8:
            kinds = [self._notated(f"{name}o{n}", root, option, quote, depth + 1) for n, option in enumerate(options)]
            return self.add(name, " | ".join(kinds))
        return self.add(name, self._typed(name, root, schema, quote, depth))

    def _python(self, name: str, root: Schema, schema: Schema) -> str:
        """JSON is Python, too, as far as our reader goes; a text may also stand between single quotes."""
        said = self.json(_rooted(root, schema))
        if not is_text(schema):
            return said
        if (values := _listed_values(schema)) is not None:
            return " | ".join(_quoted(spelt) for value in values for spelt in (json.dumps(value), python_text(value)))
        free = not schema.keys() & {"pattern", "format", "minLength"}
        inner = r"/([^'\\\n]|\\['\\nrt])*'/" if free else r"/[^'\\\n]*'/"
        return f'{said} | "\'" {self.add(name, f"{_terminal(schema, chr(39), str())} & {inner}")}'

    def _typed(self, name: str, root: Schema, schema: Schema, quote: str, depth: int) -> str:
        kind = schema.get("type")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        if kind == "object" and depth < 8:
            return f'"{{" {self.listed(f"{name}n", {**_definitions(root), **schema}, ":", ",", quote)} "}}"'
        if kind == "array" and depth < 8:
            item = self._notated(f"{name}i", root, schema.get("items") or {"type": "string"}, quote, depth + 1)
            least, most = int(schema.get("minItems", 0)), schema.get("maxItems", "")
            more = f'("," {item}){{{max(least - 1, 0)},{max(int(most) - 1, 0) if most != "" else ""}}}'
            return f'"[" {item} {more} "]"' if least else f'"[" ({item} {more})? "]"' if most != 0 else '"[]"'
        if kind in ("integer", "number", "boolean", "null"):
            return self.json(schema)
        return f"{self.exact(quote)} {self._between(name.upper(), schema, quote)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _properties(schema: Schema) -> list[tuple[str, Schema, bool]]:
    """(name, schema, is it required); a required one of which nothing is said is a text."""
    known = dict(schema.get("properties") or {})
    required = [key for key in schema.get("required") or () if isinstance(key, str)]
    known |= {key: {"type": "string"} for key in required if key not in known}
    return [(key, inner if isinstance(inner, Mapping) else {}, key in required) for key, inner in known.items()]


def _definitions(root: Schema) -> dict[str, Any]:
    return {key: root[key] for key in ("$defs", "definitions") if key in root}


def _rooted(root: Schema, schema: Schema) -> dict[str, Any]:
    return {**schema, **_definitions(root)}


def _type_name(schema: Schema) -> str:
    kind = schema.get("type")
    return "string" if is_text(schema) else NAMES.get(kind, "object") if isinstance(kind, str) else "object"


def _listed_values(schema: Schema) -> list[str] | None:
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
    return None if values is None else [value for value in values if isinstance(value, str)]


def _terminal(schema: Schema, closing: str, core: str) -> str:
    """A terminal for a text of this schema with ``closing`` behind it, and no ``core`` inside."""
    end = _escaped(closing)
    kept = [f"/(?s:.*){end}/"]
    if core:
        kept.append(f"~/(?s:.*){_escaped(core)}(?s:.+)/")
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least or most is not None:
        bound = "" if most is None or most > MAX_LENGTH else most
        kept.append(f"/(?s:.{{{min(least, MAX_LENGTH)},{bound}}}){end}/")
    if isinstance(pattern := schema.get("pattern"), str):
        kept.append(f"/{_whole(pattern)}{end}/")
    elif schema.get("format") in FORMATS:
        kept.append(f"/{FORMATS[schema['format']].replace('/', chr(92) + '/')}{end}/")
    return " & ".join(kept)


def _whole(pattern: str) -> str:
    """A pattern that may match anywhere as one for the whole text."""
    begin = "" if pattern.startswith("^") else "(?s:.*)"
    ends = pattern.endswith("$") and not pattern.endswith("\\$")
    inner = re.sub(r"(?<!\\)/", r"\/", pattern.removeprefix("^")[: -1 if ends else None])
    return f"{begin}(?:{inner}){'' if ends else '(?s:.*)'}"


def _escaped(text: str) -> str:
    return re.sub(r"[.*+?^${}()|\[\]\\/&~\-#]", lambda found: "\\" + found.group(), text).replace("\n", "\\n")
