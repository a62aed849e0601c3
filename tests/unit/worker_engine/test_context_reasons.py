"""What llama.cpp says when it makes no context, in words that say what to do."""

from __future__ import annotations

from server.worker.backends.llamacpp.context import _reason


def test_reasons() -> None:
    line = "llama_init_from_model: K cache type q4_0 with block size 32 does not divide n_embd_head_k=16\n"
    assert _reason(["some other line\n", line]).endswith("kv_cache_type: use f16")
    assert "needs flash attention" in _reason(["V cache quantization requires flash_attn\n"])
    assert _reason(["failed to allocate buffer\n"]).startswith("not enough memory for the context")
