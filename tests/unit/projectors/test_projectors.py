"""Projectors of tiny random checkpoints, saved by transformers: mtmd sees what transformers sees."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from converters.errors import InvalidSource, OutputExists, Unsupported, UnsupportedType
from converters.projectors import of_checkpoint, write
from converters.projectors.table import OF_TEXT

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
import seeing  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
W = seeing.WIDTH
TEXT = {"hidden_size": W, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 4, "head_dim": 16, "vocab_size": 64}  # fmt: skip
CLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8,
        "image_size": 32, "projection_dim": 32}  # fmt: skip
QWEN = {"depth": 3, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
WINDOWS = {"fullatt_block_indexes": [1], "window_size": 112}


def llava():
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**CLIP), text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=3, vision_feature_layer=-3, vision_feature_select_strategy="default",
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config), 32


def gemma3():
    vision = transformers.SiglipVisionConfig(**{k: v for k, v in CLIP.items() if k != "projection_dim"})
    config = transformers.Gemma3Config(
        vision_config=vision, text_config=transformers.Gemma3TextConfig(**TEXT), mm_tokens_per_image=4,
        image_token_index=3,
    )  # fmt: skip
    return transformers.Gemma3ForConditionalGeneration(config), 32


def rope(text: dict) -> dict:
    rotation = {"rope_type": "default", "mrope_section": [4, 2, 2]}
    return text | {"rope_scaling": {"type": "mrope", **rotation}, "rope_parameters": {"rope_theta": 1e4, **rotation}}


def qwen2():
    config = transformers.Qwen2VLConfig(
        text_config=rope(TEXT), vision_config={**QWEN, "embed_dim": 32, "hidden_size": W, "mlp_ratio": 2}
    )
    return transformers.Qwen2VLForConditionalGeneration(config), 140


def qwen25():
    vision = {**QWEN, **WINDOWS, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": W, "hidden_act": "silu"}
    config = transformers.Qwen2_5_VLConfig(text_config=rope(TEXT), vision_config=vision)
    return transformers.Qwen2_5_VLForConditionalGeneration(config), 140


KINDS = {"llava": llava, "gemma3": gemma3, "qwen2": qwen2, "qwen25": qwen25}


def checkpoint(kind: str, folder: Path):
    """(model, side of an image, config.json, its tensors as they are on the disk)."""
    import kept_tensors

    torch.manual_seed(4)
    model, side = KINDS[kind]()
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.2)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    return model, side, config, kept_tensors.of_folder(folder)


def expected(kind: str, model, image: np.ndarray) -> np.ndarray:
    """What transformers gives the text model to read, (tokens, width); pixels brought to −1 … 1."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        if kind.startswith("qwen"):
            patches, grid = patched(pixels[0])
            found = model.model.get_image_features(patches, grid)
        else:
            found = model.model.get_image_features(pixels)
    found = getattr(found, "pooler_output", found)
    found = found[0] if isinstance(found, list | tuple) else found
    return found.reshape(-1, W).numpy()


def patched(pixels):
    """Qwen's rows: patches of two equal frames, four neighbours after each other."""
    side = pixels.shape[-1] // 14
    frames = pixels[None].repeat(2, 1, 1, 1)
    grid = frames.reshape(1, 2, 3, side // 2, 2, 14, side // 2, 2, 14)
    return grid.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(side * side, -1), torch.tensor([[1, side, side]])


@pytest.mark.parametrize("kind", KINDS)
def test_mtmd_sees_what_transformers_sees(kind, tmp_path):
    model, side, config, tensors = checkpoint(kind, tmp_path / "model")
    halves = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    projector = of_checkpoint(config, halves)
    out = tmp_path / "mmproj.gguf"
    write(projector, tensors, out, "F32", name="tiny")
    image = np.random.default_rng(1).integers(0, 256, (side, side, 3)).astype(np.uint8)
    text = seeing.text_model(tmp_path / "text.gguf", rotated_in_three=kind.startswith("qwen"))
    found, reference = seeing.see(out, text, image), expected(kind, model, image)
    assert found.shape == reference.shape
    if kind == "llava":  # mtmd leaves out the first patch, and ends with the class token
        found, reference = found[:-1], reference[1:]
    spread = reference.std()
    assert np.abs(found - reference).max() < 5e-3 * spread, (np.abs(found - reference).max(), spread)


@pytest.mark.parametrize("kind", KINDS)
def test_halves_for_matrices_only(kind, tmp_path):
    *_, config, tensors = checkpoint(kind, tmp_path / "model")
    write(of_checkpoint(config, {}), tensors, tmp_path / "out.gguf")
    for tensor in GGUFReader(tmp_path / "out.gguf").tensors:
        wide = len(tensor.shape) < 2 or tensor.name in ("v.position_embd.weight", "v.class_embd")
        assert tensor.tensor_type.name == ("F32" if wide or (kind == "gemma3" and "patch" in tensor.name) else "F16")
    older = {name.replace("vision_tower.", "model.vision_tower.vision_model."): t for name, t in tensors.items()}
    names = [{name for found, *_ in of_checkpoint(config, {}).outputs(t) for name in found} for t in (tensors, older)]
    assert names[0] == names[1] == {t.name for t in GGUFReader(tmp_path / "out.gguf").tensors}
    with pytest.raises(OutputExists):
        write(of_checkpoint(config, {}), tensors, tmp_path / "out.gguf")
    with pytest.raises(UnsupportedType):
        write(of_checkpoint(config, {}), tensors, tmp_path / "other.gguf", "Q4_0")
    one = next(name for name in tensors if not OF_TEXT.search(name))
    with pytest.raises(InvalidSource, match="has no place"):
        write(of_checkpoint(config, {}), {"vision_tower.surprise": tensors[one]}, tmp_path / "other.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out.gguf"]


def test_what_is_not_known():
    assert of_checkpoint({"architectures": ["LlamaForCausalLM"]}, {}) is None
    with pytest.raises(Unsupported, match="mmproj"):
        of_checkpoint({"architectures": ["Mllama"], "vision_config": {}}, {})
    base = {"architectures": ["LlavaForConditionalGeneration"], "vision_config": CLIP, "text_config": TEXT}
    for changed, message in (
        ({"vision_config": CLIP | {"model_type": "pixtral"}}, "pixtral"),
        ({"vision_feature_layer": [1, 2]}, "vision_feature_layer"),
        ({"vision_feature_layer": -1}, "vision_feature_layer"),
        ({"vision_feature_select_strategy": "full"}, "class token"),
        ({"vision_config": CLIP | {"hidden_act": "relu"}}, "hidden_act"),
    ):
        with pytest.raises(Unsupported, match=message):
            of_checkpoint(base | changed, {})
    for changed, preprocessor in (
        ({"vision_config": {}}, {}),
        ({"vision_config": 3}, {}),
        ({"vision_config": CLIP | {"patch_size": -1}}, {}),
        ({}, {"image_mean": [1]}),
    ):
        with pytest.raises(InvalidSource):
            of_checkpoint(base | changed, preprocessor)
