"""Sizes, durations and times as Ollama's command line words them. Pure: the clock is handed in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

UNITS = ((1000**4, "TB"), (1000**3, "GB"), (1000**2, "MB"), (1000, "KB"))
HOURS_A_YEAR = 24 * 365


def human_bytes(count: int) -> str:
    """Decimal units: `2.0 GB`, `986 MB`, `512 B`."""
    for size, unit in UNITS:
        if count >= size:
            value = count / size
            return f"{int(value)} {unit}" if value >= 10 or value == int(value) else f"{value:.1f} {unit}"
    return f"{count} B"


def human_duration(duration: timedelta) -> str:
    """A length of time in one unit: `About a minute`, `3 hours`, `5 weeks`."""
    seconds = int(duration.total_seconds())
    minutes = seconds // 60
    hours = int(duration.total_seconds() / 3600 + 0.5)
    short = {0: "Less than a second", 1: "1 second"}
    if seconds < 60:
        return short.get(max(seconds, 0), f"{seconds} seconds")
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, size, unit in ((24 * 14, 24, "days"), (24 * 60, 168, "weeks"), (HOURS_A_YEAR * 2, 720, "months")):
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{hours // HOURS_A_YEAR} years"


def human_time(moment: datetime | None, now: datetime) -> str:
    """`2 hours ago`, `4 minutes from now`, `Forever` past twenty years, `Never` for no time at all."""
    if moment is None or moment.year <= 1:
        return "Never"
    if moment > now:
        ahead = moment - now
        if ahead > timedelta(hours=20 * HOURS_A_YEAR):
            return "Forever"
        return f"{human_duration(ahead)} from now"
    return f"{human_duration(now - moment)} ago"


def parse_time(text: str) -> datetime | None:
    """An RFC 3339 time as Go writes it: up to nine fractional digits, `Z` or an offset."""
    match = re.fullmatch(r"(.+?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    if match is None:
        return None
    whole, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{whole}.{(fraction or '0')[:6]:0<6}{'+00:00' if zone == 'Z' else zone}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the year 1 in a zone east of Greenwich has no UTC time
        return None


def go_duration(nanoseconds: int) -> str:
    """As Go prints a duration: `1m30.5s`, `12.345ms`, `0s`."""
    if nanoseconds < 0:
        return f"-{go_duration(-nanoseconds)}"
    for limit, size, unit in ((1000, 1, "ns"), (10**6, 1000, "µs"), (10**9, 10**6, "ms")):
        if 0 < nanoseconds < limit:
            return f"{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def processor(size: int, vram: int) -> str:
    """Where a loaded model's bytes are."""
    if vram == 0 and size > 0:
        return "100% CPU"
    if size == 0 or vram > size:
        return "Unknown"
    if vram == size:
        return "100% GPU"
    cpu = int((size - vram) / size * 100 + 0.5)
    return f"{cpu}%/{100 - cpu}% CPU/GPU"


def table(header: list[str], rows: list[list[str]], indent: str = "") -> str:
    """Columns four blanks apart, no lines, no blanks at the end."""
    lines = [header, *rows] if header else rows
    if not lines:
        return ""
    widths = [max(len(line[i]) if i < len(line) else 0 for line in lines) for i in range(max(map(len, lines)))]
    text = [indent + "    ".join(cell.ljust(widths[i]) for i, cell in enumerate(line)).rstrip() for line in lines]
    return "".join(f"{line.rstrip()}\n" for line in text)
