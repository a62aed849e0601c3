"""Progress on stderr: bars on a terminal, elsewhere a line for each new status."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Progressing(Protocol):
    def update(self, name: str, completed: int, total: int) -> None: ...
    def follow(self, piece: dict[str, Any]) -> None: ...


def progress() -> AbstractContextManager[Progressing]:
    return Bars() if sys.stderr.isatty() else Lines()


class Lines:
    def __init__(self) -> None:
        self._last = ""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, name: str, completed: int, total: int) -> None:
        if name != self._last:
            click.echo(name, err=True)
        self._last = name

    def follow(self, piece: dict[str, Any]) -> None:
        self.update(str(piece.get("status", "")), 0, 0)


class Bars:
    """``update`` may be called as often as there is news; a bar that reached its total keeps only that."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        from server.cli.columns import columns

        self._progress: Progress = Progress(*columns(), console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, name: str, completed: int, total: int) -> None:
        if name not in self._tasks:
            self._settle()
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=completed, total=total)

    def status(self, text: str) -> None:
        """A step without a size; the step before it is over."""
        self._settle()
        if text not in self._tasks:
            self._tasks[text] = self._progress.add_task(text, total=None)

    def _settle(self) -> None:
        for task in self._progress.tasks:
            if task.total is None:
                self._progress.update(task.id, total=1, completed=1)

    def follow(self, piece: dict[str, Any]) -> None:
        """One progress object of `/api/create`, `/api/pull` or `/api/push`."""
        status = str(piece.get("status", ""))
        if piece.get("total"):
            self.update(status, int(piece.get("completed") or 0), int(piece["total"]))
        elif status == "success":
            self.status(status)
            self._progress.update(self._tasks[status], total=1, completed=1)
        else:
            self.status(status)
