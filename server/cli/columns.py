"""The columns of a progress bar, as Ollama draws it: `pulling 0d2eb933ee3a:  43% ▕████      ▏ 870 MB/2.0 GB 45 MB/s`.

A step without a size is a spinner and its name; a bar that is full keeps its total only.
"""

from __future__ import annotations

from datetime import timedelta

from rich.progress import ProgressColumn, Task
from rich.text import Text

from server.cli.words import go_duration, human_bytes

WIDTH = 24
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def sized(task: Task) -> bool:
    return task.total is not None and task.total > 1


class Label(ProgressColumn):
    def render(self, task: Task) -> Text:
        if sized(task):
            return Text(f"{task.description}: {int(task.percentage):3d}%")
        if task.finished:
            return Text(task.description)
        return Text(f"{task.description} {SPINNER[int(task.get_time() * 10) % len(SPINNER)]}")


class Bar(ProgressColumn):
    def render(self, task: Task) -> Text:
        if not sized(task):
            return Text("")
        eighths = int(task.percentage / 100 * WIDTH * 8)
        full, rest = divmod(eighths, 8)
        drawn = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if full < WIDTH and rest else "")
        return Text(f"▕{drawn:<{WIDTH}}▏")


class Sizes(ProgressColumn):
    def render(self, task: Task) -> Text:
        if not sized(task):
            return Text("")
        total = human_bytes(int(task.total or 0))
        return Text(total if task.finished else f"{human_bytes(int(task.completed))}/{total}", justify="right")


class Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        moving = sized(task) and task.speed and not task.finished
        return Text(f"{human_bytes(int(task.speed or 0))}/s" if moving else "", justify="right")


class Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        if not sized(task) or task.finished or not task.time_remaining:
            return Text("")
        left = timedelta(seconds=int(task.time_remaining))
        return Text(go_duration(int(left.total_seconds()) * 10**9), justify="right")


def columns() -> tuple[ProgressColumn, ...]:
    return Label(), Bar(), Sizes(), Speed(), Left()
