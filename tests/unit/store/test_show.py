from __future__ import annotations

import re
import struct
import time

import pytest

from server.store import show


def test_go_strings():
    assert show.go_quote('a"\\\n\t\x01\x7fé\u00a0😀\u200b') == r'"a\"\\\n\t\x01\x7fé\u00a0😀\u200b"'


@pytest.mark.parametrize("text", ["1e-05", "10000.0", "0.1", "500000.0", "1e+20", "3.4028235e+38", "0.0", "-0.25"])
def test_the_shortest_decimal_of_a_32_bit_float(text):
    stored = struct.unpack("<f", struct.pack("<f", float(text)))[0]
    assert show.shortest(stored) == float(text)


def test_times_are_local(monkeypatch):
    for zone, expected in (
        ("UTC", "2026-11-20T11:45:23.92Z"), ("Europe/Madrid", "2026-11-20T12:45:23.92+01:00"),
        ("America/St_Johns", "2026-11-20T08:15:23.92-03:30"),
    ):  # fmt: skip
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert show.local_time(1795175123_920000000) == expected
    assert show.local_time(1795175123_000000000) == "2026-11-20T08:15:23-03:30"
    monkeypatch.undo()
    time.tzset()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000001(Z|[+-]\d\d:\d\d)", show.local_time(1))


def test_what_is_no_number_has_no_json():
    for value in (float("nan"), float("inf"), float("-inf")):
        assert show._number(value, "f32") is show._number(value, "f64") is None
    assert show._number(0.10000000149011612, "f32") == 0.1
