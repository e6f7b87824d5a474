"""The jobs of a run as a person watches them: how fast, how good, how long still."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress, TaskID

from momkd import training
from momkd.workflows.console import make_bars, say
from momkd.workflows.fold_job import FoldJob


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
        left = "" if progress.eta_s is None else f", at most {progress.eta_s / 60:.0f} min"
        text = f"{job.name}: {rate}{best}{left}"
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
    with make_bars() as bars:
        yield JobBoard(bars, total, done)
