"""Against bitsandbytes itself, on the CPU."""

from __future__ import annotations

import warnings

import kept
import numpy as np
import pytest

from converters.dequant import for_checkpoint
from converters.errors import InvalidSource, Unsupported

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    bnb = pytest.importorskip("bitsandbytes")
BASE = "model.layers.0.mlp.up_proj"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def interpreted():
    """bitsandbytes would have g++ compile its CPU kernels."""
    with torch.compiler.set_stance("force_eager"):
        yield


def plain(tensors):
    return for_checkpoint({"quantization_config": {"quant_method": "bitsandbytes"}}).plain(tensors)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("shape", "block"), [((96, 160), 64), ((64, 100), 128), ((7, 36), 64), ((3, 5), 64)])
@pytest.mark.parametrize("storage", ["uint8", "bfloat16"])
def test_4_bits(kind, nested, shape, block, storage):
    if storage != "uint8" and np.prod(shape) % 4:
        pytest.skip("does not fill 16-bit words")
    torch.manual_seed(1)
    weight = torch.randn(shape, dtype=torch.float32)
    packed, state = bnb.functional.quantize_4bit(
        weight, blocksize=block, quant_type=kind, compress_statistics=nested, quant_storage=getattr(torch, storage)
    )
    expected = bnb.functional.dequantize_4bit(packed, state).numpy()
    tensors = {f"{BASE}.weight": packed} | {f"{BASE}.weight.{k}": t for k, t in state.as_dict(packed=True).items()}
    tensors["model.norm.weight"] = torch.ones(3)
    found = plain(kept.of_torch(tensors))
    assert sorted(found) == [f"{BASE}.weight", "model.norm.weight"]
    assert found[f"{BASE}.weight"].shape == shape
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(), expected, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(1, 3), expected[1:3], rtol=2e-6, atol=1e-7)


def test_8_bits():
    torch.manual_seed(1)
    weight = torch.randn(48, 64, dtype=torch.float16)
    values, largest, _ = bnb.functional.int8_vectorwise_quant(weight)
    expected = (values.float() * largest[:, None] / 127).numpy()
    form = torch.zeros((), dtype=torch.uint8)
    tensors = {f"{BASE}.weight": values, f"{BASE}.SCB": largest, f"{BASE}.weight_format": form}
    found = plain(kept.of_torch(tensors))
    assert list(found) == [f"{BASE}.weight"]
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(), expected, rtol=1e-6)
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(5, 9), expected[5:9], rtol=1e-6)
    assert np.abs(found[f"{BASE}.weight"].read() - weight.float().numpy()).max() < 0.05
    with pytest.raises(Unsupported, match="the layout of a GPU"):
        plain(kept.of_torch(tensors | {f"{BASE}.weight_format": torch.ones((), dtype=torch.uint8)}))


def test_4_bits_that_do_not_fit():
    packed, state = bnb.functional.quantize_4bit(torch.randn(16, 64), quant_type="nf4")
    good = {f"{BASE}.weight": packed} | {f"{BASE}.weight.{k}": t for k, t in state.as_dict(packed=True).items()}
    told = f"{BASE}.weight.quant_state.bitsandbytes__nf4"
    for name, tensor, message in (
        (told, torch.zeros(9, dtype=torch.uint8), "does not say how"),
        (told, torch.tensor(list(b'{"shape": [9, 9], "blocksize": 64}'), dtype=torch.uint8), "does not hold the 81"),
        (told, torch.tensor(list(b'{"shape": [0], "blocksize": 64}'), dtype=torch.uint8), "impossible sizes"),
        (f"{BASE}.weight.absmax", torch.ones(3), "has the shape"),
        (f"{BASE}.weight.absmax", None, "lacks the tensor"),
        (f"{BASE}.weight.quant_map", torch.ones(8), "does not hold"),
    ):
        changed = {key: t for key, t in (good | {name: tensor}).items() if t is not None}
        with pytest.raises(InvalidSource, match=message):
            plain(kept.of_torch(changed))
