"""LLaVA 1.5 and its kind: a CLIP tower whose last layers are left out, and two linears with a GELU between.

llama.cpp's mtmd (as of 0.3.36) puts the class token last but still leaves out the first row: the text model reads the
second to the last patch, each exact, and then the class token. No file can change that.
"""

from __future__ import annotations

from converters.errors import Unsupported
from converters.projectors.table import Projector, Settings, Tensor, blocks, first_last

TOWER = "vision_tower.vision_model."
LAYERS = f"{TOWER}encoder.layers."
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
BLOCK = blocks(
    LAYERS,
    *((f"self_attn.{x}_proj", f"attn_{x}") for x in "qkv"),
    ("self_attn.out_proj", "attn_out"),
    ("layer_norm1", "ln1"),
    ("layer_norm2", "ln2"),
    ("mlp.fc1", "ffn_up"),
    ("mlp.fc2", "ffn_down"),
)
TENSORS = (
    Tensor(f"{TOWER}embeddings.class_embedding", ("v.class_embd",)),
    Tensor(f"{TOWER}embeddings.patch_embedding.*", ("v.patch_embd.*",)),
    Tensor(f"{TOWER}embeddings.position_embedding.weight", ("v.position_embd.weight",), first_last),
    Tensor(f"{TOWER}pre_layrnorm.*", ("v.pre_ln.*",)),  # as transformers spells it
    *BLOCK,
    Tensor("multi_modal_projector.linear_1.*", ("mm.0.*",)),
    Tensor("multi_modal_projector.linear_2.*", ("mm.2.*",)),
)


def llava(settings: Settings) -> Projector:
    kind = settings.vision.get("model_type", "clip_vision_model")
    if kind != "clip_vision_model":
        raise Unsupported(
            f'LLaVA with a vision tower of the type "{str(kind)[:40]}" cannot be converted, only with CLIP'
        )
    layer, count = settings.whole.get("vision_feature_layer", -2), settings.size("num_hidden_layers")
    if type(layer) is not int or not -count <= layer < -1:
        raise Unsupported(
            f'"vision_feature_layer": {str(layer)[:40]} is not known, only one before the last, such as -2'
        )
    if settings.whole.get("vision_feature_select_strategy", "default") != "default":
        raise Unsupported('"vision_feature_select_strategy" must be "default": mtmd leaves the class token out')
    there = count + layer + 2  # mtmd leaves out the last block that it is given
    keys = settings.common(
        width="hidden_size",
        feed_forward=settings.size("intermediate_size"),
        count=there,
        heads="num_attention_heads",
        image=settings.size("image_size"),
        epsilon=settings.number("layer_norm_eps", 1e-5),
    )
    unused = "|".join(str(n) for n in range(there, count)) or "$^"
    return Projector(
        "mlp",
        TENSORS,
        keys | settings.activation("quick_gelu") | settings.colours(CLIP_MEAN),
        drop=rf"post_layernorm|position_ids|{LAYERS.replace('.', '[.]')}({unused})[.]",
        f32=frozenset({"v.class_embd", "v.position_embd.weight"}),
    )
