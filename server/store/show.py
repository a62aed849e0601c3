"""The answers of ``/api/tags`` and ``/api/show`` for one record: exact keys, key order and texts of Ollama.

Pure but for arrays of a header, which are read from the weights when a verbose answer asks for them.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelfiles.gguf import GGUFArray, Header
from modelfiles.modelfile import format_modelfile, format_parameters
from server.store.record import Record

MAX_SHOWN = 4 * 2**20  # elements of arrays in one answer; the largest vocabularies have a quarter million tokens
FIRST_SECOND, LAST_SECOND = -30_610_224_000, 253_402_128_000  # the years 1000 and 9999, in any zone
HIDDEN = ("general.name", "tokenizer.chat_template")


def tag(record: Record) -> dict[str, Any]:
    """One entry of ``/api/tags``."""
    name, config = record.entry.name.short(), record.config
    answer: dict[str, Any] = {"name": name, "model": name}
    if config.remote_model:
        answer["remote_model"] = config.remote_model
    if config.remote_host:
        answer["remote_host"] = config.remote_host
    answer |= {
        "modified_at": local_time(record.entry.mtime_ns),
        "size": record.manifest.size,
        "digest": record.manifest.digest,
        "details": details(record, lengths=True),
        "capabilities": list(record.capabilities),
    }
    return answer


def details(record: Record, *, lengths: bool = False) -> dict[str, Any]:
    config, header = record.config, record.header
    found: dict[str, Any] = {
        "parent_model": record.parent,
        "format": config.model_format,
        "family": config.model_family,
        "families": list(config.model_families) or None,
        "parameter_size": config.model_type,
        "quantization_level": record.file_type,
    }
    if lengths:
        for key in ("context_length", "embedding_length"):
            value = getattr(config, key) or (getattr(header, key) if header else 0)
            if value:
                found[key] = value
    return found


def show(
    record: Record,
    licenses: list[str],
    paths: Mapping[str, list[Path]],
    projector: Header | None,
    *,
    verbose: bool,
    system: str,
    overlay: Mapping[str, Any],
) -> dict[str, Any]:
    """``paths``: blob files by kind, for the Modelfile. ``system`` replaces what the model has; ``overlay`` does so
    in the Modelfile alone: ``parameters`` stay the model's own, as in Ollama."""
    system = system or record.system
    answer: dict[str, Any] = {
        "license": "\n".join(licenses),
        "modelfile": modelfile(record, licenses, paths, system, _given({**record.parameters, **overlay})),
        "parameters": format_parameters(_given(record.parameters)),
        "template": record.shown_template,
        "system": system,
    }
    answer = {key: value for key, value in answer.items() if value}
    answer["details"] = details(record)
    if record.messages:
        answer["messages"] = list(record.messages)
    if record.config.remote_model:
        answer["remote_model"] = record.config.remote_model
    if record.config.remote_host:
        answer["remote_host"] = record.config.remote_host
    answer["model_info"] = _info(record.header, verbose, HIDDEN) if record.header else _remote_info(record)
    if projector is not None:
        answer["projector_info"] = _info(projector, verbose, ())
    if record.header:
        answer["tensors"] = [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in record.header.tensors]
    if record.capabilities:
        answer["capabilities"] = list(record.capabilities)
    answer["modified_at"] = local_time(record.entry.mtime_ns)
    if record.config.requires:
        answer["requires"] = record.config.requires
    return answer


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sorted(parameters.items()) if value is not None}


def _info(header: Header, verbose: bool, hidden: tuple[str, ...]) -> dict[str, Any]:
    """Arrays are null unless ``verbose``, and where all of them together are more than anybody can want."""
    found: dict[str, Any] = {"general.parameter_count": header.parameter_count}
    left = MAX_SHOWN if verbose else -1
    for key, value in header.metadata.items():
        if key in hidden:
            continue
        if isinstance(value, GGUFArray):
            shown = value.length <= left
            left -= value.length if shown else 0
            found[key] = _array(value) if shown else None
        elif isinstance(value, float):
            found[key] = _number(value, header.types.get(key, ""))
        else:
            found[key] = value
    return dict(sorted(found.items()))


def _remote_info(record: Record) -> dict[str, Any]:
    config = record.config
    found: dict[str, Any] = {"general.architecture": config.model_family}
    if config.base_name:
        found["general.basename"] = config.base_name
    for key in ("context_length", "embedding_length"):
        if value := getattr(config, key):
            found[f"{config.model_family}.{key}"] = value
    return found


def _array(array: GGUFArray) -> list[Any]:
    return [_number(value, array.type) if isinstance(value, float) else value for value in array.values()]


def _number(value: float, kind: str) -> float | None:
    """What a file says may be no number, for which JSON has no word."""
    if not math.isfinite(value):
        return None
    return shortest(value) if kind == "f32" else value


def shortest(value: float) -> float:
    """The shortest decimal that is still this 32-bit float: 1e-05, not 9.999999747378752e-06."""
    packed = _float32(value)
    short = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((number for number in short if _float32(number) == packed), value)


def _float32(value: float) -> bytes | None:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return None


GO_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
              '"': '\\"', "\\": "\\\\"}  # fmt: skip


def go_quote(text: str) -> str:
    """A string literal as Go's ``%q`` writes it."""

    def one(char: str) -> str:
        if char in GO_ESCAPES:
            return GO_ESCAPES[char]
        if char.isprintable():
            return char
        code = ord(char)
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return '"' + "".join(map(one, text)) + '"'


def modelfile(
    record: Record,
    licenses: list[str],
    paths: Mapping[str, Sequence[Path | str]],
    system: str,
    parameters: Mapping[str, Any],
) -> str:
    files = {kind: [str(path) for path in found] for kind, found in paths.items()}
    return format_modelfile(
        record.entry.name.short(),
        (files.get("model") or [record.entry.name.short()])[0],
        adapters=files.get("adapter", ()),
        drafts=files.get("draft", ()),
        projectors=[*files.get("model", [])[1:], *files.get("projector", [])],  # the parts of split weights come first
        template=record.shown_template,
        system=system,
        renderer=record.config.renderer,
        parser=record.config.parser,
        requires=record.config.requires,
        parameters=parameters,
        licenses=licenses,
        messages=[(str(m.get("role", "")), str(m.get("content", ""))) for m in record.messages],
    )


def local_time(nanoseconds: int) -> str:
    """RFC 3339 in the machine's zone, fractions without trailing zeros, as Go marshals a local time.

    A file system may hold times that no calendar has; they become the nearest that it has.
    """
    seconds, fraction = divmod(max(FIRST_SECOND * 10**9, min(nanoseconds, LAST_SECOND * 10**9)), 10**9)
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    part = f".{fraction:09d}".rstrip("0").rstrip(".")
    offset = moment.strftime("%z") if time.localtime(seconds).tm_gmtoff else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{part}" + (f"{offset[:3]}:{offset[3:5]}" if offset else "Z")
