"""The build of llama.cpp that the set-up chose, as it wrote it down beside the environment."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

RECORD = "llamada-build.json"


@dataclass(frozen=True, slots=True)
class Build:
    """``kind``: cpu, cuda, metal, rocm or vulkan."""

    kind: str
    reason: str
    llama_cpp_python: str


def read_build(prefix: Path | None = None) -> Build | None:
    """None where pip installed llamada without scripts/setup.py."""
    try:
        record = json.loads(((prefix or Path(sys.prefix)) / RECORD).read_text("utf-8"))
        return Build(str(record["kind"]), str(record["reason"]), str(record["llama_cpp_python"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
