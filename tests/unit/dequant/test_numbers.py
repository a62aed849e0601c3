from __future__ import annotations

import kept
import numpy as np
import pytest

from converters.dequant.numbers import E2M1, float8, nibbles, unpack, unpack_padded


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_integers_come_back(bits, axis):
    values = np.random.default_rng(bits).integers(0, 2**bits, (64, 3))
    words = kept.pack_stream(values, bits)
    found = unpack(words.T if axis else words, bits, axis=axis)
    np.testing.assert_array_equal(found.T if axis else found, values)


def test_words_with_unused_bits():
    values = np.arange(20).reshape(1, 20) % 8
    words = np.array(
        [[sum(int(v) << (3 * i) for i, v in enumerate(values[0, at : at + 10])) for at in (0, 10)]], np.int64
    )
    np.testing.assert_array_equal(unpack_padded(words.astype(np.uint32), 3, axis=1), values)


@pytest.mark.parametrize(("dtype", "torch_name"), [("F8_E4M3", "float8_e4m3fn"), ("F8_E5M2", "float8_e5m2")])
def test_every_8_bit_float_is_torchs(dtype, torch_name):
    torch = pytest.importorskip("torch")
    bits = np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(bits).view(getattr(torch, torch_name)).float().numpy()
    np.testing.assert_array_equal(float8(dtype), expected)


def test_powers_of_two_and_nibbles():
    assert (float8("F8_E8M0")[[0, 126, 127, 130]] == [2.0**-127, 0.5, 1, 8]).all()
    assert np.isnan(float8("F8_E8M0")[255])
    assert nibbles(np.array([[0x21, 0x43]], np.uint8)).tolist() == [[1, 2, 3, 4]]
    assert E2M1[[1, 7, 9, 15]].tolist() == [0.5, 6, -0.5, -6]
