from __future__ import annotations

import pytest

from server.store import gojson


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (256.0, "256"), (0.00001, "0.00001"), (1e-6, "0.000001"), (1e-7, "1e-07"),
        (1.5e-9, "1.5e-09"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1.25e22, "1.25e+22"),
        (123456789.125, "123456789.125"), (1.2345e17, "123450000000000000"), (-0.00012, "-0.00012"), (0.7, "0.7"),
        (1e16, "10000000000000000"), (5e-324, "5e-324"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_go_writes_them(value, text):
    assert gojson.dumps(value) == text
    assert float(text) == value


def test_strings_keys_and_order():
    value = {"b": "<a&b>\u2028é\n", "a": [True, None, 1, {"z": 1, "y": 2}]}
    assert gojson.dumps(value) == '{"b":"\\u003ca\\u0026b\\u003e\\u2028é\\n","a":[true,null,1,{"z":1,"y":2}]}'
    assert gojson.dumps(value, sort_keys=True).startswith('{"a":[true,null,1,{"y":2,"z":1}],"b"')


def test_lone_surrogates_and_impossible_values():
    assert gojson.dumps("\ud800") == '"?"'
    for bad in (float("nan"), float("inf"), object()):
        with pytest.raises(ValueError, match="no JSON form"):
            gojson.dumps(bad)
