"""What llama.cpp itself can compute on, asked of a short-lived worker: this process never loads libllama."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

logger = logging.getLogger(__name__)

PROBE = (sys.executable, "-P", "-m", "server.worker", "--probe")
TIMEOUT = 60.0
"""Seconds: the first start of a CUDA driver can take half a minute."""
BUILDS = ("cpu", "cuda", "metal", "vulkan", "rocm")


@dataclass(frozen=True, slots=True)
class LlamaDevice:
    """``name`` is llama.cpp's own (``CUDA0``); ``kind``: cpu, gpu, igpu or accel."""

    name: str
    description: str
    kind: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Probe:
    """``build`` is "" and ``problem`` says why, if the probe gave no answer."""

    build: str = ""
    devices: tuple[LlamaDevice, ...] = ()
    system_info: str = ""
    problem: str = ""


def probe(environment: Mapping[str, str], command: Sequence[str] = PROBE) -> Probe:
    """Takes about half a second; call it in a thread."""
    try:
        done = subprocess.run(
            command,
            env=_with_us(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Probe(problem=f"the probe of llama.cpp did not answer: {type(error).__name__}")
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not lines:
        logger.debug("the probe's output: %s", done.stderr.decode("utf-8", "replace"))
        return Probe(problem=f"the probe of llama.cpp ended with status {done.returncode}")
    return parse(lines[-1])


def _with_us(environment: Mapping[str, str]) -> dict[str, str]:
    """So that ``-m server.worker`` is found from a checkout too."""
    ours = str(Path(__file__).resolve().parents[2])
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), ours)))}


def parse(line: str) -> Probe:
    """A line of the worker's ``--probe``."""
    try:
        answer = orjson.loads(line)
        devices = tuple(
            LlamaDevice(str(d["name"]), str(d["description"]), str(d["kind"]), int(d["free"]), int(d["total"]))
            for d in answer["devices"]
        )
        build = str(answer["build"])
        return Probe(build if build in BUILDS else "", devices, str(answer.get("system_info", "")))
    except (KeyError, TypeError, ValueError) as error:
        return Probe(problem=f"the probe of llama.cpp answered what nobody understands: {type(error).__name__}")
