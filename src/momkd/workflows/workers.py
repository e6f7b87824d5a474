"""Fold jobs in parallel processes on one machine, with progress, stopping and no orphans."""

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from momkd.child_processes import own_context
from momkd.errors import InterruptedRunError, MachineError, MomkdError
from momkd.training import Progress
from momkd.types import Cohort
from momkd.workflows.fold_job import FoldJob, run_fold
from momkd.workflows.interruption import die_with_parent, ignore_signals, stop_on_signal
from momkd.workflows.settings import Settings
from momkd.workflows.tabular_job import run_tabular

_POLL_S = 0.2
_WORKER_GIB = 2.0  # beside the cached bags; measured: 0.8 (MoMKD) to 1.7 (G-HANet, 1,558 genes)


@runtime_checkable
class Watcher(Protocol):
    """Who is told how the jobs stand."""

    def progress(self, job: FoldJob, progress: Progress) -> None:
        """Hear of a running job."""

    def finished(self, job: FoldJob) -> None:
        """Hear that a job is done."""


def count_cores() -> int:
    """Give how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_workers(n_jobs: int, wanted: int | None, bags_gib: float) -> int:
    """Give how many processes to run: within the cores, the jobs and the free memory."""
    if wanted is not None:
        return max(1, min(wanted, n_jobs))
    room = int(_free_gib() // (_WORKER_GIB + bags_gib))
    return max(1, min(count_cores(), n_jobs, room))


def run_jobs(
    jobs: Sequence[FoldJob],
    cohort: Cohort,
    settings: Settings,
    *,
    n_workers: int,
    watcher: Watcher,
) -> None:
    """Run all jobs; on a signal let the running ones save, then raise.

    Raises
    ------
    InterruptedRunError
        T02 stopped by a signal; the same command goes on.
    MachineError
        T11 a worker process died (killed, or out of memory).
    MomkdError
        The first refusal of a job; jobs already running finish their current state first.
    """
    context = own_context()
    stop = context.Event()
    messages: Queue[Any] = context.Queue()
    with stop_on_signal(stop), _listen(messages, jobs, watcher):
        pool = ProcessPoolExecutor(
            n_workers,
            mp_context=context,
            initializer=_start_worker,
            initargs=(cohort, settings, stop, messages),
        )
        with pool:
            try:
                _collect({pool.submit(_work, i, job): job for i, job in enumerate(jobs)}, watcher)
            except BaseException:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _collect(futures: dict["Future[None]", FoldJob], watcher: Watcher) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda f: futures[f].name):
            job = futures[future]
            try:
                future.result()
            except BrokenProcessPool:
                what = f"a worker process died while {job.name} was running or waiting"
                remedy = "free memory or lower --workers; the same command goes on"
                raise MachineError.of("T11", "workers", what, remedy) from None
            watcher.finished(job)


@contextmanager
def _listen(messages: "Queue[Any]", jobs: Sequence[FoldJob], watcher: Watcher) -> Iterator[None]:
    over = threading.Event()

    def pump() -> None:
        while not over.is_set():
            try:
                index, progress = messages.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            watcher.progress(jobs[index], progress)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        messages.close()
        messages.cancel_join_thread()


# What a worker process holds: set once by its initialiser, read by every job it runs.
_cohort: Cohort
_settings: Settings
_stop: Event
_messages: "Queue[Any]"


def _start_worker(cohort: Cohort, settings: Settings, stop: Event, messages: Any) -> None:
    global _cohort, _settings, _stop, _messages
    _cohort, _settings, _stop, _messages = cohort, settings, stop, messages
    ignore_signals()
    die_with_parent()
    torch.set_num_threads(settings.fit.threads)


def _work(index: int, job: FoldJob) -> None:
    if _stop.is_set():
        raise InterruptedRunError.of("T02", job.name, "stopped before it began", "run it again")

    def tell(progress: Progress) -> None:
        _messages.put((index, progress))

    try:
        if job.choice.is_tabular:
            run_tabular(job, _cohort, _settings)
            return
        run_fold(job, _cohort, _settings, on_progress=tell, should_stop=_stop.is_set)
    except MomkdError as error:
        raise name_job(error, job) from None


def name_job(error: MomkdError, job: FoldJob) -> MomkdError:
    """Let a refusal name the job that it is of."""
    return type(error)(*(replace(p, where=f"{job.name}: {p.where}") for p in error.problems))


def _free_gib() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux: half of what is installed
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**31
    kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return kib / 2**20
