"""Values of options that no client means and every attacker tries."""

from __future__ import annotations

from typing import Any

import pytest

from server import options
from server.errors import InvalidRequest


@pytest.mark.parametrize("token", ["9" * 22, "9" * 5000, " 1", "1_0", "٣", "1.5", "", "a", "+1", "0x1"])
def test_a_bias_is_on_a_token_id(token: str) -> None:
    with pytest.raises(InvalidRequest, match='option "logit_bias" must map token ids to numbers'):
        options.parse({"logit_bias": {token: 1}})


@pytest.mark.parametrize("name", ["repeat_penalty", "temperature", "min_p"])
@pytest.mark.parametrize("value", [1e-320, 1e-38, -0.0, 1e-7])
def test_next_to_nothing_is_nothing(name: str, value: float) -> None:
    assert options.parse({name: value}) == {name: 0.0}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("num_ctx", -1, "must be between 0 and 2147483647, not -1"),
        ("num_batch", 65537, "must be between 1 and 65536, not 65537"),
        ("top_p", 1e300, "must be between 0 and 10000, not 1e+300"),
        ("seed", 10**30, f"must be between {-(2**63)} and {2**63 - 1}, not 1{'0' * 30}"),
    ],
)
def test_a_range_can_be_read(name: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        options.parse({name: value})
    assert str(caught.value) == f'option "{name}" {text}'
