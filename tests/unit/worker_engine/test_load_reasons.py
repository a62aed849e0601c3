"""Why llama.cpp does not load a file: its own reason, without paths, and what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.types import LoadOptions
from server.worker.backends.llamacpp.model import LoadError, Model

NANO = (Path(__file__).parents[2] / "golden" / "models" / "nano.gguf").read_bytes()


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (
            NANO.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0llamx", 1),
            "unknown model architecture: 'llamx'",
        ),
        (NANO.replace(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight"), "tensor 'blk.0.attn_q.weight' not found"),
        (NANO[:5000] + b"\xff" * 3000 + NANO[8000:], "failed to read key-value pairs"),
        (b"", "failed to read magic"),
    ],
)
def test_the_reason_is_told(tmp_path: Path, file: bytes, reason: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(file)
    with pytest.raises(LoadError) as caught:
        Model(str(path), LoadOptions())
    text = f"llama.cpp cannot load this model: {reason}; `llamada fsck` tells whether its file is damaged"
    assert (str(caught.value), caught.value.memory) == (text, False)
