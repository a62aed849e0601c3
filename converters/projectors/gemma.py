"""Gemma 3: a SigLIP tower, its patches averaged in squares, a norm and one matrix."""

from __future__ import annotations

import math

from converters.errors import InvalidSource
from converters.projectors.clip import BLOCK, TOWER
from converters.projectors.table import Projector, Settings, Tensor, plus_one

TENSORS = (
    Tensor(f"{TOWER}embeddings.patch_embedding.*", ("v.patch_embd.*",)),
    Tensor(f"{TOWER}embeddings.position_embedding.weight", ("v.position_embd.weight",)),
    Tensor(f"{TOWER}post_layernorm.*", ("v.post_ln.*",)),
    *BLOCK,
    Tensor("multi_modal_projector.mm_input_projection_weight", ("mm.input_projection.weight",)),
    Tensor("multi_modal_projector.mm_soft_emb_norm.weight", ("mm.soft_emb_norm.weight",), plus_one),
)


def gemma3(settings: Settings) -> Projector:
    image, patch = settings.size("image_size"), settings.size("patch_size")
    side, tokens = image // patch, settings.size("mm_tokens_per_image", 256, where="whole")
    across = math.isqrt(tokens)
    if across * across != tokens or side % across:
        raise InvalidSource(f'"mm_tokens_per_image": {tokens} are no square that divides {side} × {side} patches')
    keys = settings.common(
        width="hidden_size",
        feed_forward=settings.size("intermediate_size"),
        count=settings.size("num_hidden_layers"),
        heads="num_attention_heads",
        image=image,
        epsilon=settings.number("layer_norm_eps", 1e-6),
    )
    keys["clip.vision.projector.scale_factor"] = side // across
    return Projector(
        "gemma3",
        TENSORS,
        keys | settings.activation("gelu_pytorch_tanh") | settings.colours((0.5, 0.5, 0.5)),
        drop=r"vision_model\.head\.|position_ids",
        f32=frozenset({"v.position_embd.weight", "v.patch_embd.weight"}),
    )
