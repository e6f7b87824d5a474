"""Trainings one after another, each shared by several processes that this one watches over.

The processes are started here and run through the same list of jobs; they meet one another at each
step and nowhere else. Who ends is noticed here at once, whatever the others are waiting for: then
all are ended, and one line says whose fault it was.
"""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any

import torch

from momkd.child_processes import own_context
from momkd.errors import InterruptedRunError, MomkdError
from momkd.fitting.joining import (
    join_processes,
    leave_processes,
    open_meeting,
    require_devices,
)
from momkd.nn.processes import LOST, Processes
from momkd.training import FitOptions, Progress
from momkd.types import Cohort
from momkd.workflows.console import say
from momkd.workflows.fold_job import FoldJob, run_fold
from momkd.workflows.interruption import die_with_parent, ignore_signals, stop_on_signal
from momkd.workflows.settings import Settings
from momkd.workflows.tabular_job import run_tabular
from momkd.workflows.workers import Watcher, count_cores, name_job

_GRACE_S = 3.0  # from a process's word that another is gone to the other's end
_FINISHED = "finished"
_DONE = "done"


def tell_processes(fit: FitOptions) -> None:
    """Say that trainings are shared, and whether threads outnumber the cores."""
    say(f"fit.devices {fit.devices}: each training is shared by {fit.devices} processes")
    n_threads, cores = fit.devices * fit.threads, count_cores()
    if n_threads > cores:
        each = f"{fit.devices} processes of {fit.threads} thread{'s' * (fit.threads > 1)}"
        say(f"{each} on {cores} cores wait for one another; lower fit.devices or fit.threads")


def run_jobs_together(
    jobs: Sequence[FoldJob], cohort: Cohort, settings: Settings, *, watcher: Watcher
) -> None:
    """Run all jobs in turn, each in ``fit.devices`` processes.

    Raises
    ------
    InterruptedRunError
        T02 stopped by a signal, T19 a process was killed; the same command goes on.
    MomkdError
        The first refusal of a job; T18 there are too few devices.
    """
    require_devices(settings.fit.device, settings.fit.devices)
    context = own_context()
    stop = context.Event()
    meeting = open_meeting()
    members: list[_Member] = []
    with stop_on_signal(stop):
        try:
            for rank in range(settings.fit.devices):
                ours, theirs = context.Pipe(duplex=False)
                place = _Place(rank=rank, size=settings.fit.devices, port=meeting.port)
                process = context.Process(
                    target=_serve, args=(place, jobs, cohort, settings, stop, theirs)
                )
                process.start()
                theirs.close()  # so that the end of the process is the end of what it says
                members.append(_Member(rank=rank, process=process, pipe=ours))
            _watch(members, jobs, watcher)
        finally:
            for member in members:
                member.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a process stands among the others, and where they meet."""

    rank: int
    size: int
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A process as the one that watches sees it."""

    rank: int
    process: SpawnProcess
    pipe: Connection

    def end(self) -> None:
        """End it, if it has not."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()


def _watch(members: Sequence[_Member], jobs: Sequence[FoldJob], watcher: Watcher) -> None:
    """Listen to all processes until they are done, or one of them is not well."""
    open_ = {member.pipe: member for member in members}
    n_finished = 0
    suspicion: MomkdError | None = None
    until_s = 0.0
    while open_:
        left_s = None if suspicion is None else max(0.0, until_s - time.monotonic())
        ready = wait(list(open_), left_s)
        if suspicion is not None and not ready:
            raise suspicion
        for pipe in ready:
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except (EOFError, OSError):  # the latter where the end cut a message short
                raise _obituary(open_[pipe], len(members), jobs, n_finished) from None
            if isinstance(message, MomkdError):
                if message.problems[0].code != LOST:
                    raise message
                # whoever is gone has an end of its own, which says more
                suspicion, until_s = suspicion or message, time.monotonic() + _GRACE_S
                del open_[pipe]
            elif isinstance(message, Progress):
                watcher.progress(jobs[n_finished], message)
            elif message == _FINISHED:
                watcher.finished(jobs[n_finished])
                n_finished += 1
            else:
                del open_[pipe]
    if suspicion is not None:
        raise suspicion


def _obituary(
    member: _Member, n_members: int, jobs: Sequence[FoldJob], n_finished: int
) -> Exception:
    member.process.join(_GRACE_S)
    code = member.process.exitcode
    who = f"process {member.rank + 1} of {n_members}"
    if code is None or code >= 0:
        return RuntimeError(f"{who} ended with a fault of its own (exit code {code}), see above")
    where = jobs[min(n_finished, len(jobs) - 1)].name
    what = f"{who} was killed ({signal.Signals(-code).name}), the others were ended"
    remedy = "the same command goes on; if memory ran out, free some or lower fit.devices"
    return InterruptedRunError.of(LOST, where, what, remedy)


def _serve(
    place: _Place,
    jobs: Sequence[FoldJob],
    cohort: Cohort,
    settings: Settings,
    stop: Event,
    pipe: Connection,
) -> None:
    """Be one of the processes: do every job with the others."""
    ignore_signals()
    die_with_parent()
    torch.set_num_threads(settings.fit.threads)
    try:
        processes = join_processes(place.port, place.rank, place.size, settings.fit.device)
        for job in jobs:
            try:
                _work(job, cohort, settings, stop, pipe, processes)
            except MomkdError as error:
                raise name_job(error, job) from None
    except MomkdError as error:
        pipe.send(error)
        return
    leave_processes()
    pipe.send(_DONE)


def _work(
    job: FoldJob,
    cohort: Cohort,
    settings: Settings,
    stop: Event,
    pipe: Connection,
    processes: Processes,
) -> None:
    if processes.rank:
        if not job.choice.is_tabular:
            run_fold(job, cohort, settings, processes=processes)
        return
    if stop.is_set():
        raise InterruptedRunError.of("T02", job.name, "stopped before it began", "run it again")
    watched: dict[str, Any] = {"on_progress": pipe.send, "should_stop": stop.is_set}
    if job.choice.is_tabular:
        run_tabular(job, cohort, settings)
    else:
        run_fold(job, cohort, settings, **watched, processes=processes)
    pipe.send(_FINISHED)
