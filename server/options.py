"""Every option of Ollama's ``options`` object and of PARAMETER lines: its type, range and default.

``parse`` checks what a client gave (texts and truncation rules are Ollama's), ``merge`` lays defaults, the
model's parameters and the request over each other and splits the result into load options, sampling and
limits. Unknown names are ignored, as Ollama does; ``unknown`` lists them for the log.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from server.errors import InvalidRequest, ServerError
from server.types import Limits, LoadOptions, Sampling

T = TypeVar("T", LoadOptions, Sampling, Limits)
INT_MAX = 2**31 - 1
NEGLIGIBLE = 1e-6
TOKEN_ID = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Option:
    """``kind``: integer, float32, boolean, array, or string. ``low``/``high`` bound numbers, ends included."""

    kind: str
    low: float = -INT_MAX
    high: float = INT_MAX


OPTIONS: Mapping[str, Option] = {
    # how the model is loaded
    "num_ctx": Option("integer", 0),
    "num_batch": Option("integer", 1, 65536),
    "num_gpu": Option("integer", -1, 100_000),
    "main_gpu": Option("integer", 0, 128),
    "tensor_split": Option("floats", 0),
    "use_mmap": Option("boolean"),
    "num_thread": Option("integer", 0, 1024),
    "num_parallel": Option("integer", 0, 256),
    "kv_cache_type": Option("string"),
    "flash_attention": Option("boolean"),
    "cpu_moe": Option("integer", 0, 100_000),
    "draft_num_predict": Option("integer", 0, 256),
    # how tokens are drawn
    "temperature": Option("float32", 0, 1e4),
    "top_k": Option("integer"),
    "top_p": Option("float32", 0, 1e4),
    "min_p": Option("float32", 0, 1e4),
    "typical_p": Option("float32", 0, 1e4),
    "repeat_last_n": Option("integer", -1),
    "repeat_penalty": Option("float32", 0, 1e4),
    "presence_penalty": Option("float32", -1e4, 1e4),
    "frequency_penalty": Option("float32", -1e4, 1e4),
    "seed": Option("integer", -(2**63), 2**63 - 1),
    "mirostat": Option("integer", 0, 2),
    "mirostat_tau": Option("float32", 0, 1e4),
    "mirostat_eta": Option("float32", 0, 1e4),
    "top_n_sigma": Option("float32", -1, 1e4),
    "dynatemp_range": Option("float32", 0, 1e4),
    "dynatemp_exponent": Option("float32", 0, 1e4),
    "xtc_probability": Option("float32", 0, 1),
    "xtc_threshold": Option("float32", 0, 1),
    "dry_multiplier": Option("float32", 0, 1e4),
    "dry_base": Option("float32", 0, 1e4),
    "dry_allowed_length": Option("integer", 0),
    "dry_penalty_last_n": Option("integer", -1),
    "ignore_eos": Option("boolean"),
    "logit_bias": Option("biases"),
    # when a generation stops
    "num_predict": Option("integer", -2),
    "think_budget": Option("integer", -1),
    "num_keep": Option("integer", -1),
    "stop": Option("array"),
}

MAX_STOPS, MAX_STOP_BYTES, MAX_BIASES = 16, 1024, 1024
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


class OptionError(ServerError):
    """A value of the wrong type: status 500, because real Ollama answers so and clients match on it."""


def parse(given: Mapping[str, Any]) -> dict[str, Any]:
    """The known options of ``given`` with their values checked; nulls and unknown names are left out.

    Wrong type → ``OptionError`` (500, Ollama's text); out of range → ``InvalidRequest`` (400).
    """
    return {name: _value(name, OPTIONS[name], value) for name, value in given.items()
            if name in OPTIONS and value is not None}  # fmt: skip


def unknown(given: Iterable[str]) -> list[str]:
    """The names in ``given`` that no part of this server reads."""
    return sorted(name for name in given if name not in OPTIONS)


def _value(name: str, option: Option, value: Any) -> Any:
    match option.kind:
        case "integer":
            return int(_number(name, option, value, "integer"))
        case "float32":
            return _float32(_number(name, option, value, "float32"))
        case "boolean":
            if not isinstance(value, bool):
                raise OptionError(f'option "{name}" must be of type boolean')
            return value
        case "string":
            return _kv_type(name, value)
        case "floats":
            return tuple(float(_number(name, option, v, "float32")) for v in _array(name, value))
        case "biases":
            return _biases(name, value)
        case _:
            return _strings(name, value)


def _number(name: str, option: Option, value: Any, kind: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f'option "{name}" must be of type {kind}')
    if not math.isfinite(value) or not option.low <= value <= option.high:
        low, high = (f"{int(b)}" if float(b).is_integer() else f"{b:g}" for b in (option.low, option.high))
        raise InvalidRequest(f'option "{name}" must be between {low} and {high}, not {value}')
    return value


def _float32(value: float | int) -> float:
    """What is next to nothing is nothing: a division by it would leave the range of float32."""
    return float(value) if abs(value) >= NEGLIGIBLE else 0.0


def _array(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise OptionError(f'option "{name}" must be of type array')
    return list(value)


def _strings(name: str, value: Any) -> tuple[str, ...]:
    items = _array(name, value)
    if not all(isinstance(item, str) for item in items):
        raise OptionError(f'option "{name}" must be of an array of strings')
    if len(items) > MAX_STOPS or any(len(item.encode()) > MAX_STOP_BYTES for item in items):
        raise InvalidRequest(f'option "{name}" takes at most {MAX_STOPS} strings of at most {MAX_STOP_BYTES} bytes')
    return tuple(item for item in items if item)


def _kv_type(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise OptionError(f'option "{name}" must be of type string')
    parts = value.lower().split("/")
    if len(parts) > 2 or any(part not in KV_TYPES for part in parts):
        raise InvalidRequest(f'option "{name}" must be one of {", ".join(KV_TYPES)} or a pair such as "q8_0/f16"')
    return "/".join(parts)


def _biases(name: str, value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise OptionError(f'option "{name}" must be of type object')
    if len(value) > MAX_BIASES:
        raise InvalidRequest(f'option "{name}" takes at most {MAX_BIASES} entries')
    bounds = Option("float32", -1e4, 1e4)
    if not all(TOKEN_ID.fullmatch(str(token)) for token in value):
        raise InvalidRequest(f'option "{name}" must map token ids to numbers')
    return {int(token): float(_number(name, bounds, bias, "float32")) for token, bias in value.items()}


@dataclass(frozen=True, slots=True)
class Merged:
    load: LoadOptions
    sampling: Sampling
    limits: Limits


def merge(*layers: Mapping[str, Any]) -> Merged:
    """Later layers win: server defaults, the model's parameters, the request."""
    values: dict[str, Any] = {}
    for layer in layers:
        values.update(layer)
    if "stop" in values:
        values["stop"] = tuple(values["stop"])
    return Merged(_fill(LoadOptions(), values), _fill(Sampling(), values), _fill(Limits(), values))


def _fill(base: T, values: Mapping[str, Any]) -> T:
    names = {f.name for f in dataclasses.fields(base)}
    return dataclasses.replace(base, **{k: v for k, v in values.items() if k in names})
