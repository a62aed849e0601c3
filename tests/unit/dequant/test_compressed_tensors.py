"""Against the package compressed-tensors itself, format by format."""

from __future__ import annotations

import kept
import numpy as np
import pytest

from converters.dequant import for_checkpoint
from converters.errors import InvalidSource, Unsupported

BASE = "model.layers.0.mlp.up_proj"


def config(**weights) -> dict:
    group = {"targets": ["Linear"], "weights": weights}
    return {"quant_method": "compressed-tensors", "format": weights.pop("form"), "config_groups": {"group_0": group}}


def schemes() -> list:
    base = {"type": "int", "symmetric": True}
    odd = {"type": "int", "symmetric": False}
    made = [
        {"form": "pack-quantized", "num_bits": bits, "strategy": "group", "group_size": 32, **base}
        for bits in (2, 3, 4, 5, 8)
    ]
    made += [
        {"form": "pack-quantized", "num_bits": 4, "strategy": "channel", **base},
        {"form": "pack-quantized", "num_bits": 4, "strategy": "group", "group_size": 32, **odd},
        {"form": "pack-quantized", "num_bits": 3, "strategy": "channel", **odd},
        {"form": "int-quantized", "num_bits": 8, "strategy": "channel", **base},
        {"form": "int-quantized", "num_bits": 8, "strategy": "tensor", **odd},
        {"form": "naive-quantized", "num_bits": 8, "strategy": "group", "group_size": 32, **base},
        {"form": "float-quantized", "num_bits": 8, "strategy": "channel", "type": "float", "symmetric": True},
        {"form": "float-quantized", "num_bits": 8, "strategy": "tensor", "type": "float", "symmetric": True},
        {"form": "float-quantized", "num_bits": 8, "strategy": "block", "block_structure": [32, 64], "type": "float",
         "symmetric": True},
        {"form": "nvfp4-pack-quantized", "num_bits": 4, "strategy": "tensor_group", "group_size": 16, "type": "float",
         "symmetric": True},
        {"form": "mxfp4-pack-quantized", "num_bits": 4, "strategy": "group", "group_size": 32, "type": "float",
         "symmetric": True},
        {"form": "mxfp8-quantized", "num_bits": 8, "strategy": "group", "group_size": 32, "type": "float",
         "symmetric": True},
    ]  # fmt: skip
    return made


def name_of(scheme: dict) -> str:
    return f"{scheme['form']}-{scheme['num_bits']}-{scheme['strategy']}-{scheme['symmetric']}"


@pytest.mark.parametrize("scheme", schemes(), ids=name_of)
def test_what_the_package_decompresses(scheme):
    torch = pytest.importorskip("torch")
    compressors = pytest.importorskip("compressed_tensors.compressors")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    torch.manual_seed(2)
    out, columns = 96, 128
    weight = torch.randn(out, columns)
    arguments = {k: v for k, v in scheme.items() if k != "form"}
    if scheme["form"].startswith("mx"):
        arguments["scale_dtype"] = torch.uint8
    args = quantization.QuantizationArgs(**arguments)
    state = {"weight": weight} | parameters(torch, scheme, out, columns)
    compressor = compressors.BaseCompressor.get_value_from_registry(scheme["form"])
    whole = quantization.QuantizationScheme(targets=["Linear"], weights=args)
    packed = compressor.compress(dict(state), whole)
    expected = compressor.decompress(dict(packed), whole)["weight"].float().numpy()
    assert np.abs(expected - weight.numpy()).mean() < 1.5  # the round trip means something

    tensors = kept.of_torch({f"{BASE}.{name}": tensor for name, tensor in packed.items()})
    found = for_checkpoint({"quantization_config": config(**scheme)}).plain(tensors)
    assert list(found) == [f"{BASE}.weight"]
    near = 2**-8 if scheme["form"].startswith("nvfp4") else 1e-5  # the package computes those in bfloat16
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(), expected, rtol=near, atol=1e-7)
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(33, 71), expected[33:71], rtol=near, atol=1e-7)


def parameters(torch, scheme: dict, out: int, columns: int) -> dict:
    """Scales and zero points of a sensible size, for whatever shares them."""
    shapes = {"tensor": (1,), "channel": (out, 1), "block": (out // 32, columns // 64)}
    shape = shapes.get(scheme["strategy"]) or (out, columns // scheme["group_size"])
    half = 2.0 ** (scheme["num_bits"] - 1)
    largest = {"int": half, "float": 448.0 if scheme["num_bits"] == 8 else 6.0}[scheme["type"]]
    scale = (torch.rand(shape) + 0.5) * 3 / largest
    made = {"weight_scale": scale}
    if scheme["form"].startswith("mx"):
        made["weight_scale"] = 2.0 ** torch.floor(torch.log2(scale))
    if scheme["strategy"] == "tensor_group":
        made["weight_global_scale"] = torch.tensor([100.0])
        made["weight_scale"] = (scale * 100).to(torch.float8_e4m3fn).float()
    if not scheme["symmetric"]:
        made["weight_zero_point"] = torch.randint(-int(half), int(half), shape).to(torch.int8)
    return made


def packed_4bit() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(tensors, values from -8 to 7) of 8 rows, 64 columns and two groups with the scales 1 and 2."""
    values = np.random.default_rng(1).integers(-8, 8, (8, 64))
    scale = np.tile(np.array([1, 2], np.float32), (8, 1))
    tensors = {
        f"{BASE}.weight_packed": kept.pack_stream((values + 8).T, 4).T.copy(),
        f"{BASE}.weight_scale": scale,
        f"{BASE}.weight_shape": np.array([8, 64], np.int64),
    }
    return tensors, values


CONFIG = {"form": "pack-quantized", "num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}


def plain(tensors: dict[str, np.ndarray], **dtypes: str):
    return for_checkpoint({"quantization_config": config(**CONFIG)}).plain(kept.checkpoint(tensors, **dtypes))


def test_columns_in_the_order_of_their_importance():
    tensors, values = packed_4bit()
    order = np.random.default_rng(2).integers(0, 2, 64).astype(np.int32)
    found = plain(tensors | {f"{BASE}.weight_g_idx": order})[f"{BASE}.weight"].read()
    np.testing.assert_array_equal(found, values * (1 + order))
    unset = plain(tensors | {f"{BASE}.weight_g_idx": np.full(64, -1, np.int32)})[f"{BASE}.weight"].read()
    np.testing.assert_array_equal(unset, values * np.repeat([1, 2], 32))


def test_older_versions_left_bits_of_a_word_unused():
    """Three bits: ten values to a word."""
    values = np.random.default_rng(3).integers(0, 8, (8, 64))
    words = np.zeros((8, 7), np.int64)
    for column in range(64):
        words[:, column // 10] |= values[:, column] << (3 * (column % 10))
    tensors = packed_4bit()[0] | {f"{BASE}.weight_packed": words.astype(np.uint32).view(np.int32)}
    three = for_checkpoint({"quantization_config": config(**CONFIG | {"num_bits": 3})})
    found = three.plain(kept.checkpoint(tensors))[f"{BASE}.weight"].read()
    np.testing.assert_array_equal(found, (values - 4) * np.repeat([1, 2], 32))


def test_what_does_not_fit():
    tensors, _ = packed_4bit()
    for name, array, message in (
        ("weight_shape", np.array([9, 64], np.int64), "does not fit its weight"),
        ("weight_shape", np.array([8, 99], np.int64), "do not hold 99 columns"),
        ("weight_scale", np.ones((8, 3), np.float32), "has the shape"),
        ("weight_zero_point", np.ones((5, 2), np.int32), "does not fit the scales"),
        ("weight_g_idx", np.full(64, 7, np.int32), "name groups that there are not"),
    ):
        with pytest.raises(InvalidSource, match=message):
            plain(tensors | {f"{BASE}.{name}": array})[f"{BASE}.weight"].read()
    with pytest.raises(InvalidSource, match="lacks the tensor"):
        plain({name: t for name, t in tensors.items() if not name.endswith("scale")})


@pytest.mark.parametrize("form", ["sparse-24-bitmask", "marlin-24", "mxfp6-pack-quantized"])
def test_formats_that_are_not_known(form):
    with pytest.raises(Unsupported, match=form):
        for_checkpoint({"quantization_config": {"quant_method": "compressed-tensors", "format": form}})
    sparse = {"quant_method": "compressed-tensors", "format": "dense", "sparsity_config": {"format": form}}
    with pytest.raises(Unsupported, match=form):
        for_checkpoint({"quantization_config": sparse})
