"""Cores and memory that this process may really use: affinity and cgroup (v1 and v2) limits included.

Everything is read from files under ``root`` (tests hand in a tree) or from psutil; nothing is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
NO_LIMIT = 2**62
"""cgroup v1 spells "no limit" as the largest page-aligned number."""


@dataclass(frozen=True, slots=True)
class Memory:
    total: int
    available: int


def usable_cores(root: Path = ROOT) -> int:
    """Cores in this process's affinity, cut to the cgroup's CPU quota (rounded down: a throttled thread stalls
    all others at the next barrier)."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(min(cores, int(cpu_quota(root))), 1)


def physical_cores() -> int:
    """Cores without their hyper-threads; 0 if the machine does not say."""
    import psutil

    return psutil.cpu_count(logical=False) or 0


def memory(root: Path = ROOT) -> Memory:
    """Of the machine or of the tightest cgroup around us, whichever is less."""
    import psutil

    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    for limit, used in memory_limits(root):
        if limit < NO_LIMIT:
            total, available = min(total, limit), min(available, max(limit - used, 0))
    return Memory(total, available)


def committed(pid: int, root: Path = ROOT) -> int:
    """Bytes of anonymous memory that process ``pid`` really holds, 0 if that cannot be read."""
    try:
        text = (root / "proc" / str(pid) / "status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon" and value.split()[:1] and value.split()[0].isdigit():
            return int(value.split()[0]) * 1024
    return 0


def memory_limits(root: Path = ROOT) -> Iterator[tuple[int, int]]:
    """(limit, used) of every memory cgroup around this process; page cache that can be dropped is not used."""
    for folder in _cgroup_folders(root, "memory"):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            bytes_limit, bytes_used = _number(folder / limit), _number(folder / used)
            if bytes_limit is not None and bytes_used is not None:
                yield bytes_limit, max(bytes_used - _statistic(folder / "memory.stat", cache), 0)


def cpu_quota(root: Path = ROOT) -> float:
    """Cores' worth of CPU time that the cgroups around this process grant; infinite without a quota."""
    quota = float("inf")
    for folder in _cgroup_folders(root, "cpu"):
        words = _text(folder / "cpu.max").split()
        if len(words) != 2:
            words = [_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()]
        if all(word.isdigit() for word in words) and int(words[1]) > 0:
            quota = min(quota, int(words[0]) / int(words[1]))
    return quota if quota < float("inf") else float(os.cpu_count() or 1)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """This process's folder in each hierarchy that has ``controller``, and those above it up to the mount.

    In a container the path may name a folder outside of the namespace: then the mount itself is ours.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if names and controller not in names.split(","):
            continue
        base = root / "sys/fs/cgroup"
        mount = base / controller if names else base
        if not names and not (base / "cgroup.controllers").exists():
            mount = base / "unified"
        parts = [part for part in path.split("/") if part not in ("", "..", ".")]
        for depth in range(len(parts), -1, -1):
            folder = mount.joinpath(*parts[:depth])
            if folder.is_dir():
                yield folder


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    if text == "max":
        return NO_LIMIT
    return int(text) if text.isdigit() else None


def _statistic(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0
