"""What a client asks of create, and what is wrong with it before anything is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelfiles.errors import QuantizationError
from modelfiles.names import ModelName
from modelfiles.quantization import PLAIN, file_type_named, parse_rules
from server.errors import InvalidRequest, Unsupported
from server.store.digests import Digest
from server.store.library import parse_name
from server.types import Message

INFO_TEXTS = ("model_family", "base_name", "quantization_level", "parameter_size")
INFO_NUMBERS = ("context_length", "embedding_length")
UNSAFE = re.compile(r"[\\\x00]")


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """``POST /api/create``. ``source`` is its ``from``; ``files`` None = not given; ``license`` as it came."""

    model: str
    source: str = ""
    files: Mapping[str, str] | None = None
    adapters: Mapping[str, str] | None = None
    draft_files: Mapping[str, str] | None = None
    quantize: str = ""
    draft_quantize: str = ""
    allow_requantize: bool = False
    tensor_types: tuple[str, ...] = ()
    imatrix: Mapping[str, str] | None = None
    calibration: Mapping[str, str] | None = None
    calibrate_self: bool = False
    keep_imatrix: bool = False
    template: str = ""
    system: str = ""
    license: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    remote_host: str = ""


def check(request: CreateRequest) -> ModelName:
    """The target's name. InvalidRequest for what Ollama refuses before it answers 200."""
    for files in (request.files, request.draft_files, request.adapters, request.imatrix, request.calibration):
        for path, digest in (files or {}).items():
            if not _relative(path):
                raise InvalidRequest("file path must be relative")
            Digest.parse(digest)
    if request.draft_quantize and not request.draft_files:
        raise InvalidRequest("--draft-quantize requires a DRAFT model")
    if not request.model:
        raise InvalidRequest("invalid model name")
    name = parse_name(request.model)
    _check_info(request.info)
    if request.remote_host:
        raise Unsupported("this server cannot create remote models")
    _check_quantization(request)
    return name


def _check_quantization(request: CreateRequest) -> None:
    """What does not go together. The types themselves are Ollama's to refuse, after its 200."""
    ways = [request.imatrix, request.calibration, request.calibrate_self]
    if sum(map(bool, ways)) > 1:
        raise InvalidRequest("give one of imatrix, calibration and calibrate_self: each says where the matrix is from")
    if request.imatrix and len(request.imatrix) > 1:
        raise InvalidRequest("only one importance matrix can be used")
    kind = file_type_named(request.quantize) if request.quantize else None
    if any(ways) and not request.keep_imatrix and (not request.quantize or kind in PLAIN):
        raise InvalidRequest("an importance matrix is for a quantized type: give quantize, or keep it (keep_imatrix)")
    if request.keep_imatrix and not any(ways):
        raise InvalidRequest("keep_imatrix keeps the matrix of imatrix, calibration or calibrate_self: give one")
    if request.tensor_types and not request.quantize:
        raise InvalidRequest("tensor_types needs quantize, for the tensors that no pattern matches")
    if request.allow_requantize and not (request.quantize or request.draft_quantize):
        raise InvalidRequest("allow_requantize needs quantize")
    try:
        parse_rules(request.tensor_types)
    except QuantizationError as error:
        raise InvalidRequest(str(error)) from None


def _relative(path: str) -> bool:
    """A path that stays below where it is put, on every system."""
    return not UNSAFE.search(path) and all(part not in ("", ".", "..") for part in path.split("/"))


def _check_info(info: Mapping[str, Any]) -> None:
    for name in INFO_NUMBERS:
        value = info.get(name, 0)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not 0 <= value < 2**53:
            raise InvalidRequest(f'info field "{name}" must be a non-negative integer')
    for name in INFO_TEXTS:
        if not isinstance(info.get(name, ""), str):
            raise InvalidRequest(f'info field "{name}" must be a string')
    capabilities = info.get("capabilities", [])
    if not isinstance(capabilities, list) or not all(isinstance(item, str) for item in capabilities):
        raise InvalidRequest('info field "capabilities" must be a list of strings')
