from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from server.cli.words import go_duration, human_bytes, human_time, parse_time, processor, table

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (986_000_000, "986 MB"),
        (2_019_393_189, "2.0 GB"),
        (2_000_000_000, "2 GB"),
        (39_900_000_000, "39 GB"),
        (10**12, "1 TB"),
    ],
)
def test_sizes_are_decimal(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(0), "Less than a second ago"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(seconds=45), "45 seconds ago"),
        (timedelta(seconds=70), "About a minute ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(minutes=61), "About an hour ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=13), "13 days ago"),
        (timedelta(days=20), "2 weeks ago"),
        (timedelta(days=100), "3 months ago"),
        (timedelta(days=900), "2 years ago"),
        (-timedelta(minutes=4, seconds=59), "4 minutes from now"),
        (-timedelta(days=365 * 300), "Forever"),
    ],
)
def test_times_are_words(ago: timedelta, text: str) -> None:
    assert human_time(NOW - ago, NOW) == text


def test_no_time_is_never() -> None:
    assert human_time(None, NOW) == "Never"
    assert human_time(parse_time("0001-01-01T00:00:00Z"), NOW) == "Never"


@pytest.mark.parametrize(
    "text", ["2026-05-01T14:00:00.123456789+02:00", "2026-05-01T12:00:00.1Z", "2026-05-01T12:00:00Z"]
)
def test_go_times_are_read(text: str) -> None:
    moment = parse_time(text)
    assert moment is not None
    assert moment.replace(microsecond=0) == NOW


def test_what_is_no_time_is_none() -> None:
    assert parse_time("yesterday") is None
    assert parse_time("0001-01-01T00:00:00+02:00") is None


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1500, "1.5µs"),
        (12_345_000, "12.345ms"),
        (1_234_567_891, "1.234567891s"),
        (90_500_000_000, "1m30.5s"),
        (3_600_000_000_000, "1h0m0s"),
        (-1_000_000, "-1ms"),
    ],
)
def test_durations_are_written_as_go_does(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("size", "vram", "text"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (100, 59, "41%/59% CPU/GPU"),
        (0, 0, "Unknown"),
        (100, 101, "Unknown"),
    ],
)
def test_where_a_model_is(size: int, vram: int, text: str) -> None:
    assert processor(size, vram) == text


def test_columns_are_four_blanks_apart() -> None:
    assert table(["NAME", "SIZE"], [["guide:latest", "14 MB"], ["a", ""]]) == (
        "NAME            SIZE\nguide:latest    14 MB\na\n"
    )
