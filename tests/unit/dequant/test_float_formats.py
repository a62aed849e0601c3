"""FP8, and MXFP4 as it goes into GGUF."""

from __future__ import annotations

import kept
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf import dequantize as gguf_dequantize

from converters.dequant import for_checkpoint
from converters.dequant.mxfp4 import repack
from converters.dequant.numbers import E2M1, float8
from converters.errors import InvalidSource, Unsupported

BASE = "model.layers.0.mlp.up_proj"


def read(config: dict, tensors: dict[str, np.ndarray], **dtypes: str):
    return for_checkpoint({"quantization_config": config}).plain(kept.checkpoint(tensors, **dtypes))


def bits(*shape: int) -> np.ndarray:
    """Finite FP8 numbers."""
    return np.random.default_rng(3).integers(0, 0x7E, shape).astype(np.uint8)


@pytest.mark.parametrize("block", [None, [128, 128], [16, 32]])
def test_fp8_in_blocks_that_need_not_fit(block):
    down, across = block or (128, 128)
    weight = bits(200, 300)
    scales = np.random.default_rng(4).random((-(-200 // down), -(-300 // across))).astype(np.float32)
    expected = np.empty((200, 300), np.float32)
    for row in range(200):
        for column in range(300):
            expected[row, column] = float8("F8_E4M3")[weight[row, column]] * scales[row // down, column // across]
    tensors = {
        f"{BASE}.weight": weight,
        f"{BASE}.weight_scale_inv": scales,
        f"{BASE}.input_scale": np.ones(1, np.float32),
    }
    found = read({"quant_method": "fp8", "weight_block_size": block}, tensors, weight="F8_E4M3")
    assert list(found) == [f"{BASE}.weight"]
    np.testing.assert_array_equal(found[f"{BASE}.weight"].read(), expected)
    np.testing.assert_array_equal(found[f"{BASE}.weight"].read(120, 140), expected[120:140])


@pytest.mark.parametrize("method", ["fp8", "fbgemm_fp8", "modelopt"])
@pytest.mark.parametrize("shape", [(), (1,), (8, 1), (8,)])
@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_fp8_with_one_scale_or_one_per_row(method, shape, dtype):
    weight, scales = bits(8, 6) & 0x7B, np.full(shape, 0.5, np.float32)
    tensors = {f"{BASE}.weight": weight, f"{BASE}.weight_scale": scales, "model.norm.weight": np.ones(6, np.float32)}
    kinds = kept.checkpoint(tensors)
    kinds[f"{BASE}.weight"].dtype = dtype
    found = for_checkpoint({"quantization_config": {"quant_method": method}}).plain(kinds)
    np.testing.assert_array_equal(found[f"{BASE}.weight"].read(2, 5), 0.5 * float8(dtype)[weight[2:5]])
    assert found["model.norm.weight"].dtype == "F32"


def test_fp8_that_does_not_fit():
    with pytest.raises(InvalidSource, match="fits no way of scaling"):
        read({"quant_method": "fp8"}, {"a.weight": bits(8, 8), "a.weight_scale_inv": np.ones((3, 3), np.float32)},
             weight="F8_E4M3")  # fmt: skip
    with pytest.raises(InvalidSource, match=r'lacks the tensor "a.weight_scale"'):
        read({"quant_method": "fp8"}, {"a.weight": bits(8, 8)}, weight="F8_E4M3")
    with pytest.raises(InvalidSource, match="no pair of sizes"):
        read({"quant_method": "fp8", "weight_block_size": [128, "x"]}, {})
    with pytest.raises(Unsupported, match='"NVFP4" cannot be converted'):
        read({"quant_method": "modelopt", "quant_algo": "NVFP4"}, {})


def test_mxfp4_goes_into_gguf_bit_by_bit():
    random = np.random.default_rng(5)
    blocks = random.integers(0, 256, (2, 6, 3, 16)).astype(np.uint8)
    scales = random.integers(110, 140, (2, 6, 3)).astype(np.uint8)
    expected = np.empty((2, 6, 96), np.float32)
    for expert, row, block, at in np.ndindex(2, 6, 3, 32):
        byte = blocks[expert, row, block, at // 2]
        value = E2M1[byte >> 4 if at % 2 else byte & 15]
        expected[expert, row, 32 * block + at] = value * 2.0 ** (int(scales[expert, row, block]) - 127)

    packed = repack(blocks, scales)
    assert packed.shape == (2, 6, 3 * 17)
    np.testing.assert_array_equal(gguf_dequantize(packed, GGMLQuantizationType.MXFP4), expected)
    # Every half byte is there once: nothing was rounded.
    halves = packed.reshape(2, 6, 3, 17)
    np.testing.assert_array_equal(halves[..., 0], scales)
    np.testing.assert_array_equal(
        halves[..., 1:] & 15, np.stack([blocks & 15, blocks >> 4], -1).reshape(2, 6, 3, 32)[..., :16]
    )

    at = "model.layers.0.mlp.experts.gate_up_proj"
    found = read(
        {"quant_method": "mxfp4"},
        {f"{at}_blocks": blocks, f"{at}_scales": scales, f"{at}_bias": np.ones((2, 6), np.float32)},
    )
    assert sorted(found) == [at, f"{at}_bias"]
    assert found[at].shape == (2, 96, 6)
    np.testing.assert_array_equal(found[at].read(), expected.swapaxes(1, 2))
    np.testing.assert_array_equal(found[at].read(1, 2), expected[1:2].swapaxes(1, 2))
    np.testing.assert_array_equal(found[at].blocks(1), packed[1:])


def test_mxfp4_is_what_transformers_reads():
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("transformers.integrations.mxfp4")
    random = np.random.default_rng(6)
    blocks = random.integers(0, 256, (2, 4, 2, 16)).astype(np.uint8)
    scales = random.integers(120, 134, (2, 4, 2)).astype(np.uint8)
    expected = module.convert_moe_packed_tensors(
        torch.from_numpy(blocks), torch.from_numpy(scales), dtype=torch.float32
    )
    found = read({"quant_method": "mxfp4"}, {"e.down_proj_blocks": blocks, "e.down_proj_scales": scales})
    np.testing.assert_array_equal(found["e.down_proj"].read(), expected.numpy())


def test_mxfp4_that_does_not_fit():
    for arrays in (
        {"e.down_proj_blocks": np.zeros((2, 4, 2, 8), np.uint8), "e.down_proj_scales": np.zeros((2, 4, 2), np.uint8)},
        {"e.down_proj_blocks": np.zeros((2, 4, 2, 16), np.uint8), "e.down_proj_scales": np.zeros((2, 4), np.uint8)},
        {"e.down_proj_blocks": np.zeros((2, 4, 2, 16), np.uint8)},
    ):
        with pytest.raises(InvalidSource):
            read({"quant_method": "mxfp4"}, arrays)
