"""Qwen2-VL and Qwen2.5-VL: a tower with rotary places, four patches merged into one token."""

from __future__ import annotations

from converters.errors import Unsupported
from converters.projectors.clip import CLIP_MEAN
from converters.projectors.table import Projector, Settings, Tensor, Value, blocks, frames, thirds

FUSED = ("attn_q", "attn_k", "attn_v")
SHARED = (
    Tensor("visual.patch_embed.proj.weight", ("v.patch_embd.weight", "v.patch_embd.weight.1"), frames),
    Tensor("visual.merger.ln_q.*", ("v.post_ln.*",)),
    Tensor("visual.merger.mlp.0.*", ("mm.0.*",)),
    Tensor("visual.merger.mlp.2.*", ("mm.2.*",)),
    *blocks(
        "visual.blocks.",
        ("attn.qkv", FUSED, thirds),
        ("attn.proj", "attn_out"),
        ("norm1", "ln1"),
        ("norm2", "ln2"),
    ),
)
PLAIN_MLP = blocks("visual.blocks.", ("mlp.fc1", "ffn_up"), ("mlp.fc2", "ffn_down"))
GATED_MLP = blocks("visual.blocks.", *((f"mlp.{x}_proj", f"ffn_{x}") for x in ("gate", "up", "down")))
IMAGE = 560  # what llama.cpp's own converter writes: the size that it warms up with; images keep their own


def qwen2(settings: Settings) -> Projector:
    keys = settings.common(
        width="embed_dim",
        feed_forward=int(settings.size("embed_dim") * settings.number("mlp_ratio", 4)),
        count=settings.size("depth"),
        heads="num_heads",
        image=IMAGE,
        epsilon=1e-6,
    )
    return _projector("qwen2vl_merger", settings, keys | settings.activation("quick_gelu"), PLAIN_MLP)


def qwen25(settings: Settings) -> Projector:
    keys = settings.common(
        width="hidden_size",
        feed_forward=settings.size("intermediate_size"),
        count=settings.size("depth"),
        heads="num_heads",
        image=IMAGE,
        epsilon=1e-6,
    )
    whole = settings.vision.get("fullatt_block_indexes") or []
    step = whole[0] + 1 if isinstance(whole, list) and whole and type(whole[0]) is int else 0
    if step < 1 or whole != list(range(step - 1, whole[-1] + 1, step)):
        raise Unsupported('"fullatt_block_indexes" must be every n-th block: mtmd knows no other pattern')
    keys["clip.vision.n_wa_pattern"] = step
    keys["clip.vision.window_size"] = settings.size("window_size", 112)
    return _projector("qwen2.5vl_merger", settings, keys | settings.activation("silu"), GATED_MLP)


def _projector(kind: str, settings: Settings, keys: dict[str, Value], mlp: tuple[Tensor, ...]) -> Projector:
    if settings.size("spatial_merge_size", 2) != 2:
        raise Unsupported('"spatial_merge_size" must be 2 for Qwen-VL')
    keys["clip.vision.spatial_merge_size"] = 2
    return Projector(kind, (*SHARED, *mlp), keys | settings.colours(CLIP_MEAN))
