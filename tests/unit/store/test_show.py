from __future__ import annotations

import re
import struct
import time
from types import SimpleNamespace

import pytest

from modelfiles.gguf import GGUFArray
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


@pytest.mark.parametrize("nanoseconds", [2**63 * 1000, 10**21, -(10**20)])
def test_times_that_no_calendar_has(nanoseconds):
    assert re.fullmatch(r"(9999|1000|0999)-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", show.local_time(nanoseconds))


def test_endless_arrays_are_not_shown(tmp_path):
    """Each element of a file's byte would be a hundred bytes of memory here."""
    few = GGUFArray("u8", 2, tmp_path, 0, 2, b"\x01\x02")
    many = GGUFArray("u8", show.MAX_SHOWN, tmp_path, 0, show.MAX_SHOWN)
    header = SimpleNamespace(parameter_count=1, metadata={"a": few, "b": many, "c": few}, types={})
    assert show._info(header, True, ()) == {"a": [1, 2], "b": None, "c": [1, 2], "general.parameter_count": 1}
    assert show._info(header, False, ())["a"] is None


def test_what_is_no_number_has_no_json():
    for value in (float("nan"), float("inf"), float("-inf")):
        assert show._number(value, "f32") is show._number(value, "f64") is None
    assert show._number(0.10000000149011612, "f32") == 0.1
