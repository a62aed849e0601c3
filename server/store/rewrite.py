"""Weights through the converters, in a child process with an empty environment: converted, quantized, merged, checked.

The child is ``python -m converters``. It sees the source and a private folder, is killed when the caller
leaves, and its output becomes a blob only when it said that all is well.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from server.errors import InvalidRequest, ServerError
from server.store.blobs import Blobs
from server.store.digests import Digest

logger = logging.getLogger(__name__)

# The packages lie beside each other, installed or not; the child finds `converters` in its working folder.
PACKAGES = Path(__file__).resolve().parents[2]
PASSED = ("PATH", "LANG", "HOME", "TMPDIR")
MAX_LINE = 64 * 1024
MAX_LOG = 4096
NICE = "10"  # whoever talks to a loaded model comes first


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    # ggml would otherwise fork a debugger on an abort, which takes seconds.
    passed = {name: environment[name] for name in PASSED if name in environment}
    return passed | {"GGML_NO_BACKTRACE": "1", "HF_HUB_OFFLINE": "1"}


async def rewrite(
    source: Path, out: Path, type_name: str, environment: Mapping[str, str], options: Sequence[str] = ()
) -> AsyncGenerator[float | str]:
    """Yields the fraction done, and warnings. InvalidRequest with the child's words when the model is to blame."""
    async with aclosing(convert("quantize", source, out, ("--type", type_name, *options), environment)) as told:
        async for news in told:
            yield news


async def convert(
    verb: str, source: Path, out: Path, options: Sequence[str], environment: Mapping[str, str]
) -> AsyncGenerator[float | str]:
    """``python -m converters VERB``, as above."""
    command = (verb, "--in", str(source), "--out", str(out), *options)
    async with aclosing(converter(command, out.with_name("stderr"), environment)) as lines:
        async for told in lines:
            if told.get("total"):
                yield told["completed"] / told["total"]
            if told.get("warning"):
                yield str(told["warning"])


async def converter(
    command: Sequence[str], complaints: Path, environment: Mapping[str, str]
) -> AsyncGenerator[dict[str, Any]]:
    """What ``python -m converters`` tells, line by line. InvalidRequest with its words when it cannot do it."""
    with complaints.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "converters", *command, "--nice", NICE,
            cwd=PACKAGES, env=child_environment(environment), limit=MAX_LINE,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    error = ""
    try:
        if process.stdout is None:
            raise ServerError("the converter has no output")
        async for line in process.stdout:
            told = _told(line)
            error = told.get("error") or error
            if not error:
                yield told
        code = await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if error:
        raise InvalidRequest(error)
    if code:
        logger.error(
            "the converter ended with status %d: %s",
            code,
            complaints.read_bytes()[-MAX_LOG:].decode("utf-8", "replace"),  # noqa: ASYNC240 (a few kilobytes)
        )
    if code < 0:
        raise InvalidRequest("llama.cpp cannot read this model: it stopped at once, the file is probably damaged")
    if code:
        raise ServerError(f"the converter ended with status {code}")


def _told(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def link_parts(folder: Path, blobs: Blobs, files: Mapping[str, Digest]) -> Path:
    """The parts of a split model under the names that llama.cpp wants; the first one's path."""
    for name, digest in files.items():
        os.symlink(blobs.path(digest).resolve(), folder / name)
    return folder / min(files)


def link_files(folder: Path, blobs: Blobs, files: Mapping[str, Digest]) -> Path:
    """A checkpoint's files under their own names in a folder of their own; names were checked to stay below it."""
    place = folder / "checkpoint"
    for name, digest in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(blobs.path(digest).resolve(), path)
    return place
