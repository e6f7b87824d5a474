"""What a person sees while work goes on: bars on a terminal, plain lines when piped."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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

from momkd import training
from momkd.workflows.fold_job import FoldJob

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
    with _bars() as bars:
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


class JobBoard:
    """Bars for the jobs of a run; implements the watcher of ``workers.run_jobs``."""

    def __init__(self, bars: Progress, total: int, done: int) -> None:
        self._bars = bars
        self._total = total
        self._done = done
        self._overall = bars.add_task("folds", total=total, completed=done)
        self._tasks: dict[str, TaskID] = {}

    def progress(self, job: FoldJob, progress: "training.Progress") -> None:
        """Update the bar of a running job."""
        if job.name not in self._tasks:
            self._tasks[job.name] = self._bars.add_task(job.name, total=progress.n_epochs)
        fraction = progress.epoch + progress.step / max(progress.n_steps, 1)
        best = "" if progress.best_score is None else f", best val {progress.best_score:.3f}"
        rate = f"{progress.samples_per_s:.0f} samples/s, data wait {progress.wait_share:.0%}"
        text = f"{job.name}: {rate}{best}"
        self._bars.update(self._tasks[job.name], completed=fraction, description=text)

    def finished(self, job: FoldJob) -> None:
        """Count a job as done."""
        self._done += 1
        task = self._tasks.pop(job.name, None)
        if task is not None:
            self._bars.remove_task(task)
        self._bars.advance(self._overall)
        if not self._bars.console.is_terminal:
            say(f"{job.name}: done ({self._done} of {self._total})")


@contextmanager
def job_board(total: int, done: int) -> Iterator[JobBoard]:
    """Show the bars of a run's jobs."""
    with _bars() as bars:
        yield JobBoard(bars, total, done)


def _bars() -> Progress:
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
