"""GPTQ and AWQ: against encodings made here, value by value, as the formats' own packers describe them."""

from __future__ import annotations

import kept
import numpy as np
import pytest

from converters.dequant import for_checkpoint
from converters.errors import InvalidSource, Unsupported

IN, OUT, GROUP = 96, 64, 32
BASE = "model.layers.0.mlp.up_proj"


def gptq(bits: int, less: int, order: np.ndarray | None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(tensors, the weight that they stand for)."""
    random = np.random.default_rng(bits)
    values = random.integers(0, 2**bits, (IN, OUT))
    zeros = random.integers(less, 2**bits, (IN // GROUP, OUT))
    scales = random.random((IN // GROUP, OUT)).astype(np.float16)
    group_of = np.arange(IN) // GROUP if order is None else order
    weight = np.empty((OUT, IN), np.float32)
    for row in range(OUT):
        for column in range(IN):
            group = group_of[column]
            weight[row, column] = float(scales[group, row]) * (int(values[column, row]) - int(zeros[group, row]))
    tensors = {
        f"{BASE}.qweight": kept.pack_stream(values, bits),
        f"{BASE}.qzeros": kept.pack_stream((zeros - less).T, bits).T.copy(),
        f"{BASE}.scales": scales,
        f"{BASE}.bias": np.ones(OUT, np.float16),
    }
    if order is not None:
        tensors[f"{BASE}.g_idx"] = order.astype(np.int32)
    return tensors, weight


def read(config: dict, tensors: dict[str, np.ndarray], **dtypes: str):
    return for_checkpoint({"quantization_config": config}).plain(kept.checkpoint(tensors, **dtypes))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("form", "less"), [("gptq", 1), ("gptq_v2", 0), (None, 1)])
@pytest.mark.parametrize("ordered", [False, True])
def test_gptq(bits, form, less, ordered):
    order = np.random.default_rng(0).permutation(IN) // GROUP if ordered else None
    tensors, weight = gptq(bits, less, order)
    config = {"quant_method": "gptq", "bits": bits, "group_size": GROUP} | ({"checkpoint_format": form} if form else {})
    found = read(config, tensors)
    assert sorted(found) == [f"{BASE}.bias", f"{BASE}.weight"]
    assert found[f"{BASE}.weight"].shape == (OUT, IN)
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(), weight, rtol=1e-6)
    for start, stop in ((0, 1), (5, 38), (31, 33), (63, 64), (40, 40)):
        np.testing.assert_allclose(found[f"{BASE}.weight"].read(start, stop), weight[start:stop], rtol=1e-6)


def test_gptq_zero_points_that_wrapped_around():
    """A zero point of 0 is stored, less one, as the highest number."""
    tensors, _ = gptq(4, 1, None)
    tensors[f"{BASE}.qzeros"] = np.full_like(tensors[f"{BASE}.qzeros"], -1)
    found = read({"quant_method": "gptq", "bits": 4, "group_size": GROUP}, tensors)[f"{BASE}.weight"].read()
    assert found.min() == 0


def test_gptq_one_group_and_linears_of_their_own_width():
    tensors, weight = gptq(8, 1, np.arange(IN) // GROUP)
    found = read({"quant_method": "gptq", "bits": 4, "group_size": 128}, tensors)  # as "dynamic" rules make them
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(), weight, rtol=1e-6)
    one = {name: (t[:1] if name.endswith(("zeros", "scales")) else t) for name, t in gptq(4, 1, None)[0].items()}
    assert read({"quant_method": "gptq", "bits": 4, "group_size": -1}, one)[f"{BASE}.weight"].read().shape == (OUT, IN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{BASE}.qzeros": None}, "lacks the tensor"),
        ({f"{BASE}.scales": np.ones((3, 63), np.float16)}, "has the shape"),
        ({f"{BASE}.qzeros": np.ones((2, 8), np.int32)}, "has the shape"),
        ({f"{BASE}.g_idx": np.full(IN, 3, np.int32)}, "groups that it has no scales for"),
        ({f"{BASE}.g_idx": np.full(IN, -1, np.int32)}, "groups that it has no scales for"),
        ({f"{BASE}.g_idx": np.zeros(IN + 1, np.int32)}, "do not hold"),
        ({f"{BASE}.qweight": np.ones((12, 64), np.float32)}, "no GPTQ weight"),
        ({f"{BASE}.weight": np.ones((OUT, IN), np.float32)}, "both quantized and plain"),
    ],
)
def test_gptq_that_does_not_fit(change, message):
    tensors = {name: t for name, t in (gptq(4, 1, None)[0] | change).items() if t is not None}
    with pytest.raises(InvalidSource, match=message):
        read({"quant_method": "gptq", "bits": 4, "group_size": GROUP}, tensors)


def test_gptq_scales_that_are_no_numbers():
    tensors, _ = gptq(4, 1, None)
    tensors[f"{BASE}.scales"][0, 0] = np.nan
    found = read({"quant_method": "gptq", "bits": 4, "group_size": GROUP}, tensors)
    with pytest.raises(InvalidSource, match="values that are no numbers"):
        found[f"{BASE}.weight"].read()


def awq() -> tuple[dict[str, np.ndarray], np.ndarray]:
    random = np.random.default_rng(7)
    values = random.integers(0, 16, (IN, OUT))
    zeros = random.integers(0, 16, (IN // GROUP, OUT))
    scales = random.random((IN // GROUP, OUT)).astype(np.float16)
    weight = (values - np.repeat(zeros, GROUP, 0)) * np.repeat(scales.astype(np.float32), GROUP, 0)

    def packed(numbers: np.ndarray) -> np.ndarray:
        """Half byte i of word w holds column 8 w + order[i]."""
        words = np.zeros((len(numbers), OUT // 8), np.uint32)
        for word in range(OUT // 8):
            for i, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
                words[:, word] |= numbers[:, 8 * word + column].astype(np.uint32) << np.uint32(4 * i)
        return words.view(np.int32)

    tensors = {f"{BASE}.qweight": packed(values), f"{BASE}.qzeros": packed(zeros), f"{BASE}.scales": scales}
    return tensors, weight.T


@pytest.mark.parametrize("config", [{"version": "gemm", "bits": 4}, {"version": "GEMM", "w_bit": 4}, {}])
def test_awq(config):
    tensors, weight = awq()
    found = read({"quant_method": "awq", **config}, tensors)
    assert list(found) == [f"{BASE}.weight"]
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(), weight, rtol=1e-6)
    for start, stop in ((0, 1), (7, 9), (13, 60), (63, 64)):
        np.testing.assert_allclose(found[f"{BASE}.weight"].read(start, stop), weight[start:stop], rtol=1e-6)


def test_awq_that_does_not_fit():
    tensors, _ = awq()
    for name, array in (("qzeros", np.ones((3, 7), np.int32)), ("scales", np.ones((5, OUT), np.float16))):
        with pytest.raises(InvalidSource):
            read({"quant_method": "awq"}, tensors | {f"{BASE}.{name}": array})


@pytest.mark.parametrize(
    "config",
    [{"quant_method": "awq", "version": "gemv"}, {"quant_method": "awq", "bits": 3},
     {"quant_method": "gptq", "checkpoint_format": "marlin"}, {"quant_method": "gptq", "bits": 5}],
)  # fmt: skip
def test_layouts_that_are_not_known(config):
    with pytest.raises(Unsupported, match=r"cannot be converted|is not known"):
        for_checkpoint({"quantization_config": config})


def test_auto_round_writes_what_others_read():
    tensors, weight = awq()
    found = read({"quant_method": "auto-round", "packing_format": "auto_round:auto_awq", "bits": 4}, tensors)
    np.testing.assert_allclose(found[f"{BASE}.weight"].read(), weight, rtol=1e-6)
