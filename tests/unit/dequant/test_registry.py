from __future__ import annotations

from contextlib import suppress

import pytest

from converters.dequant import for_checkpoint
from converters.dequant.registry import ADVICE, FORMATS
from converters.errors import ConverterError, InvalidSource, Unsupported


def test_plain_checkpoints_have_none():
    assert for_checkpoint({}) is None
    assert for_checkpoint({"quantization_config": None, "text_config": {}}) is None


@pytest.mark.parametrize("method", sorted(FORMATS))
def test_every_known_one_is_found(method):
    found = for_checkpoint({"quantization_config": {"quant_method": method}})
    assert found is not None
    assert found.name
    assert found.plain({}) == {}


def test_where_else_it_may_stand():
    assert for_checkpoint({"quantization_config": {"load_in_4bit": True}}).name == "bitsandbytes"
    assert for_checkpoint({"text_config": {"quantization_config": {"quant_method": "GPTQ"}}}).name == "GPTQ"


@pytest.mark.parametrize("method", [*ADVICE, "somebody-elses", "", "auto-round"])
def test_others_are_refused_by_name_with_what_to_do(method):
    with pytest.raises(Unsupported) as error:
        for_checkpoint({"quantization_config": {"quant_method": method}})
    assert f'"{method}" cannot be converted: ' in error.value.message
    assert (
        "original" in error.value.message or "dequantize" in error.value.message or "start from" in error.value.message
    )


JUNK: tuple[object, ...] = (
    *(None, True, -1, 0, 3.5, float("nan"), "", "x", [], [[]], [1, "x"], [0, 0], {}, {"a": []}, {"format": {}}),
    *({"a": {"weights": 1}}, {"a": {"weights": {"num_bits": [], "block_structure": "x"}}}),
)
KEYS = (
    *("bits", "group_size", "checkpoint_format", "version", "w_bit", "weight_block_size", "quant_algo", "format"),
    *("config_groups", "sparsity_config", "packing_format"),
)


@pytest.mark.parametrize("method", [*FORMATS, "auto-round"])
@pytest.mark.parametrize("key", KEYS)
def test_any_config_is_read_or_refused(method, key):
    for value in JUNK:
        with suppress(ConverterError):
            for_checkpoint({"quantization_config": {"quant_method": method, key: value}})


def test_an_entry_that_is_no_object():
    with pytest.raises(InvalidSource, match="no object"):
        for_checkpoint({"quantization_config": "gptq"})
