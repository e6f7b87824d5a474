"""What a person sees while work goes on: bars on a terminal, plain lines when piped."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_quiet = False

Listener = Callable[[str, float, float], None]
"""Told a step, how much of it is done, and how much there is (0: not known)."""

_listener: Listener | None = None


def set_quiet(quiet: bool) -> None:
    """Silence everything but results and refusals."""
    global _quiet
    _quiet = quiet


def listen(listener: Listener | None) -> None:
    """Have steps and bars of this process told to somebody who cannot see a terminal."""
    global _listener
    _listener = listener


def say(text: str) -> None:
    """Tell a step on standard error; results go to standard output."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def count_files(what: str) -> Iterator["FileCounter"]:
    """Show a bar over files while they are examined."""
    with make_bars() as bars:
        yield FileCounter(bars, what)


class FileCounter:
    """A bar that learns its length when the work starts."""

    def __init__(self, bars: Progress, what: str) -> None:
        self._bars = bars
        self._task = bars.add_task(what, total=None)

    def start(self, total: int) -> None:
        """Say how many files there are."""
        self._bars.update(self._task, total=total)

    def advance(self) -> None:
        """Count one file."""
        self._bars.advance(self._task)


class _ToldBars(Progress):
    """Bars that the listener hears of too."""

    def advance(self, task_id: TaskID, advance: int | float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        if _listener is not None:
            task = self._tasks[task_id]
            _listener(task.description, float(task.completed), float(task.total or 0))


def make_bars() -> Progress:
    """Make bars that vanish when done, and show nothing where nobody watches."""
    console = Console(stderr=True)
    return _ToldBars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=_quiet or not console.is_terminal,
    )
