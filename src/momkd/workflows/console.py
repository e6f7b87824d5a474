"""What a person sees while work goes on: bars on a terminal, plain lines when piped."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Silence everything but results and refusals."""
    global _quiet
    _quiet = quiet


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


def make_bars() -> Progress:
    """Make bars that vanish when done, and show nothing where nobody watches."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=_quiet or not console.is_terminal,
    )
