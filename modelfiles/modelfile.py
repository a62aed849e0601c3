"""Modelfiles: read with Ollama's grammar and error texts, written as ``show`` prints them.

``parse`` knows what each instruction means, not whether what it names exists. Deprecated parameters are left out and
told as warnings.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from modelfiles.errors import ModelfileError
from modelfiles.gotemplate_values import show

COMMANDS: tuple[str, ...] = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
)
COMMANDS += ("requires",)
ROLES = ("system", "user", "assistant")
BAD_COMMAND = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", '
    '"parameter", "message", or "requires"'
)
BAD_ROLE = 'message role must be one of "system", "user", or "assistant"'
BAD_REQUIRES = "requires must be a valid semver (e.g. 0.14.0)"
SEMVER = re.compile(
    r"v?(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?)?)?", re.ASCII
)

# What a PARAMETER may be, and how its text is read.
PARAMETERS: Mapping[str, str] = {
    **dict.fromkeys(
        ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_parallel", "cpu_moe", "draft_num_predict"),
        "int",
    ),
    **dict.fromkeys(("num_keep", "num_predict", "think_budget", "seed", "top_k", "repeat_last_n"), "int"),
    **dict.fromkeys(("dry_allowed_length", "dry_penalty_last_n"), "int"),
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "repeat_penalty"), "float"),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "top_n_sigma", "dynatemp_range"), "float"),
    **dict.fromkeys(("dynatemp_exponent", "xtc_probability", "xtc_threshold", "dry_multiplier", "dry_base"), "float"),
    **dict.fromkeys(("use_mmap", "flash_attention", "ignore_eos"), "bool"),
    "kv_cache_type": "string",
    "stop": "strings",
}
DEPRECATED = frozenset(
    {"penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"}
    | {"mirostat", "mirostat_tau", "mirostat_eta"}
)
BOOLS = {"1": True, "t": True, "T": True, "TRUE": True, "true": True, "True": True}
BOOLS |= {"0": False, "f": False, "F": False, "FALSE": False, "false": False, "False": False}


@dataclass(frozen=True, slots=True)
class Instruction:
    """``name`` in lower case; ``key`` is the parameter's name or the message's role."""

    name: str
    value: str
    key: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Modelfile:
    """``sources``: the first FROM is the model, others are projectors or parts of it. ``messages``
    are pairs of role and content. None = not said."""

    sources: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    drafts: tuple[str, ...] = ()
    template: str | None = None
    system: str | None = None
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[tuple[str, str], ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    warnings: tuple[str, ...] = ()


def parse(text: str | bytes) -> Modelfile:
    """``ModelfileError`` with Ollama's text; those of the grammar begin with ``(line N): ``."""
    instructions = read(decode(text) if isinstance(text, bytes) else text.removeprefix("\ufeff"))
    if not any(instruction.name == "from" for instruction in instructions):
        raise ModelfileError("no FROM line")
    return _meaning(instructions)


def decode(raw: bytes) -> str:
    """UTF-8 unless a byte order mark says UTF-16."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, "replace")
    return raw.decode("utf-8", "replace")


# -- the grammar ------------------------------------------------------------------------------------------


class _State(Enum):
    NOTHING = auto()
    COMMENT = auto()
    NAME = auto()
    PARAMETER = auto()
    ROLE = auto()
    VALUE = auto()


NAME = re.compile(r"[A-Za-z]+")
KEY = re.compile(r"[A-Za-z0-9_]+")


def read(text: str) -> list[Instruction]:
    """The instructions as they stand."""
    reader = _Reader()
    for character in text:
        reader.take(character)
    return reader.finish()


class _Reader:
    """Ollama's state machine, character by character: its oddities are the format."""

    def __init__(self) -> None:
        self._out: list[Instruction] = []
        self._state = _State.NOTHING
        self._buffer: list[str] = []
        self._name = ""
        self._key = ""
        self._line = 1
        self._began = 1

    def take(self, character: str) -> None:
        self._line += character == "\n"
        match self._state:
            case _State.NOTHING:
                self._nothing(character)
            case _State.COMMENT:
                if character in "\r\n":
                    self._state = _State.NOTHING
            case _State.NAME:
                self._command(character)
            case _State.PARAMETER | _State.ROLE:
                self._word(character)
            case _State.VALUE:
                self._buffer.append(character)
                if character in "\r\n":
                    self._end_value()

    def finish(self) -> list[Instruction]:
        if self._state is _State.VALUE:
            self._end_value()
        if self._state not in (_State.NOTHING, _State.COMMENT):
            raise ModelfileError("unexpected EOF")
        return self._out

    def _nothing(self, character: str) -> None:
        if character == "#":
            self._state = _State.COMMENT
        elif character not in " \t\r\n":
            self._state, self._buffer, self._began, self._key = _State.NAME, [character], self._line, ""

    def _command(self, character: str) -> None:
        if NAME.fullmatch(character):
            self._buffer.append(character)
            return
        self._name = "".join(self._buffer).lower()
        if character not in " \t" or self._name not in COMMANDS:
            raise ModelfileError(f"(line {self._line}): {BAD_COMMAND}")
        self._state = {"parameter": _State.PARAMETER, "message": _State.ROLE}.get(self._name, _State.VALUE)
        self._buffer = []

    def _word(self, character: str) -> None:
        """The name of a parameter or a role, up to a blank."""
        if (KEY if self._state is _State.PARAMETER else NAME).fullmatch(character):
            self._buffer.append(character)
            return
        word = "".join(self._buffer)
        if character not in " \t":
            raise ModelfileError(f"unexpected EOF: {word}")
        if not word:
            return  # more blanks before it
        if self._state is _State.ROLE and word not in ROLES:
            raise ModelfileError(f"(line {self._line}): {BAD_ROLE}")
        self._key, self._state, self._buffer = word, _State.VALUE, []

    def _end_value(self) -> None:
        """At the end of a line: the value is whole unless its quotes are still open."""
        value = _unquoted("".join(self._buffer).strip())
        if value is not None:
            self._out.append(Instruction(self._name, value, self._key, self._began))
            self._state, self._buffer = _State.NOTHING, []


def _unquoted(text: str) -> str | None:
    for quotes in ('"""', '"'):
        if text.startswith(quotes):
            whole = len(text) >= 2 * len(quotes) and text.endswith(quotes)
            return text[len(quotes) : -len(quotes)] if whole else None
    return text


# -- what it means ----------------------------------------------------------------------------------------


def _meaning(instructions: Sequence[Instruction]) -> Modelfile:
    def every(name: str) -> tuple[str, ...]:
        return tuple(i.value for i in instructions if i.name == name)

    def last(name: str) -> str | None:
        return next(reversed(every(name)), None)

    requires = last("requires") or ""
    if not all(SEMVER.fullmatch(version) for version in every("requires")):
        raise ModelfileError(BAD_REQUIRES)
    parameters, warnings = _parameters([i for i in instructions if i.name == "parameter"])
    return Modelfile(
        sources=every("from"),
        adapters=every("adapter"),
        drafts=every("draft"),
        template=last("template"),
        system=last("system"),
        licenses=every("license"),
        parameters=parameters,
        messages=tuple((i.key, i.value) for i in instructions if i.name == "message"),
        renderer=last("renderer") or "",
        parser=last("parser") or "",
        requires=requires,
        warnings=tuple(warnings),
    )


def _parameters(instructions: Sequence[Instruction]) -> tuple[dict[str, Any], list[str]]:
    """Stops are collected; of anything else the last one counts."""
    parameters: dict[str, Any] = {}
    warnings = []
    for instruction in instructions:
        name = instruction.key
        if name in DEPRECATED:
            warnings.append(f"parameter {name} is deprecated")
            continue
        value = parameter(name, instruction.value)
        parameters[name] = [*parameters.get(name, ()), *value] if isinstance(value, list) else value
    return parameters, warnings


def parameter(name: str, text: str) -> Any:
    """The value that ``PARAMETER name text`` sets."""
    kind = PARAMETERS.get(name)
    try:
        match kind:
            case None:
                raise ModelfileError(f"unknown parameter '{name}'")
            case "int":
                return _integer(text)
            case "float":
                return _float(text)
            case "bool":
                return BOOLS[text]
            case "strings":
                return [text]
            case _:
                return text
    except (KeyError, OverflowError):
        raise ModelfileError(f"invalid {kind} value [{text}]") from None


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not -(2**63) <= int(text) < 2**63:
        raise OverflowError
    return int(text)


def _float(text: str) -> float:
    if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", text):
        raise OverflowError
    value = float(text)
    if abs(value) > 3.4028235677973366e38:  # the largest float32, rounded
        raise OverflowError
    return value


# -- writing ----------------------------------------------------------------------------------------------


def format_modelfile(
    name: str,
    source: str,
    *,
    adapters: Sequence[str] = (),
    drafts: Sequence[str] = (),
    projectors: Sequence[str] = (),
    template: str | None = None,
    system: str | None = None,
    renderer: str = "",
    parser: str = "",
    requires: str = "",
    parameters: Mapping[str, Any] | None = None,
    licenses: Sequence[str] = (),
    messages: Sequence[tuple[str, str]] = (),
) -> str:
    """As ``show`` prints it. ``name`` is the model's own, ``source`` what FROM says."""
    lines = ['# Modelfile generated by "ollama show"', "# To build a new Modelfile based on this, replace FROM with:"]
    lines += [f"# FROM {name}", "", f"FROM {source}"]
    lines += [f"ADAPTER {quoted(path)}" for path in adapters]
    lines += [f"DRAFT {quoted(path)}" for path in drafts]
    lines += [f"FROM {path}" for path in projectors]
    single = (
        ("TEMPLATE", template),
        ("SYSTEM", system),
        ("RENDERER", renderer),
        ("PARSER", parser),
        ("REQUIRES", requires),
    )
    lines += [f"{command} {quoted(value)}" for command, value in single if value]
    for key, value in (parameters or {}).items():
        lines += [f"PARAMETER {key} {quoted(text)}" for text in _texts(value)]
    lines += [f"LICENSE {quoted(text)}" for text in licenses]
    lines += [f"MESSAGE {role} {quoted(content)}" for role, content in messages]
    return "\n".join(lines) + "\n"


def format_parameters(parameters: Mapping[str, Any]) -> str:
    """The ``parameters`` of ``show``: a line each, names in a column of 30, strings in quotes."""
    return "\n".join(
        f"{key:<30} {show_parameter(value)}"
        for key, values in parameters.items()
        for value in (values if isinstance(values, list | tuple) else (values,))
    )


def show_parameter(value: Any) -> str:
    if not isinstance(value, str):
        return show(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    for character, name in (("\n", "n"), ("\t", "t"), ("\r", "r")):
        escaped = escaped.replace(character, f"\\{name}")
    return f'"{escaped}"'


def _texts(value: Any) -> list[str]:
    return [show(item) for item in value] if isinstance(value, list | tuple) else [show(value)]


def quoted(text: str) -> str:
    """``text`` such that ``parse`` reads it back: bare where it can be."""
    if "\n" not in text and text == text.strip() and not text.startswith('"') and text:
        return text
    return f'"""{text}"""' if '"' in text else f'"{text}"'
