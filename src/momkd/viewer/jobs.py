"""Long work beside the server: one job at a time, each in a process that may be killed."""

import os
import secrets
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from momkd.child_processes import own_context
from momkd.errors import MachineError, MomkdError, Problem
from momkd.viewer.absence import NotServedError

State = Literal["waiting", "running", "done", "failed", "cancelled"]
Tell = Callable[[str, float, float], None]
"""Told what goes on, how much of it is done, and how much there is (0: not known)."""

Work = Callable[[Tell], dict[str, Any]]
"""What a job does, in its process; it and its answer travel between processes."""

_KEPT = 100
_ENDED = ("done", "failed", "cancelled")


@dataclass(slots=True, kw_only=True)
class Job:
    """One piece of work and what became of it.

    Parameters
    ----------
    key, name
        What stands for it in addresses, and in words.
    work
        What is done.
    on_done
        Called with the answer, in the server; a refusal of it is the job's.
    state, step, done, total
        How far it is.
    lines
        How it ended, if not well: one line a fault.
    answer
        For the page.
    """

    key: str
    name: str
    work: Work
    on_done: Callable[[dict[str, Any]], dict[str, Any]]
    state: State = "waiting"
    step: str = "waiting for the jobs before it"
    done: float = 0.0
    total: float = 0.0
    lines: tuple[str, ...] = ()
    answer: dict[str, Any] = field(default_factory=dict)
    started_s: float = 0.0
    took_s: float = 0.0
    process: BaseProcess | None = None

    def is_cancelled(self) -> bool:
        """Whether somebody stopped it, perhaps while this was worked on."""
        return self.state == "cancelled"

    def told(self) -> dict[str, Any]:
        """Give it as the page reads it."""
        took_s = time.monotonic() - self.started_s if self.state == "running" else self.took_s
        return {
            "key": self.key,
            "name": self.name,
            "state": self.state,
            "step": self.step,
            "done": self.done,
            "total": self.total,
            "lines": list(self.lines),
            "answer": self.answer,
            "took_s": round(took_s, 1),
        }


class JobQueue:
    """Jobs in the order they came; one runs, so that two do not share cores and memory.

    Parameters
    ----------
    most_waiting
        More are refused.
    folders
        Cut from lines that are told: pages name files, not places of this machine.
    """

    def __init__(self, most_waiting: int = 20, folders: Sequence[Path] = ()) -> None:
        self._most_waiting = most_waiting
        self._folders = tuple(folders)
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def put(
        self, name: str, work: Work, on_done: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Job:
        """Add a job.

        Raises
        ------
        MachineError
            D12 too many wait.
        """
        with self._lock:
            waiting = sum(j.state == "waiting" for j in self._jobs.values())
            if waiting >= self._most_waiting or self._closed:
                what = f"{waiting} jobs are waiting, no more are taken"
                raise MachineError.of("D12", "viewer", what, "wait until one is done")
            job = Job(key=secrets.token_hex(8), name=name, work=work, on_done=on_done)
            self._jobs[job.key] = job
            self._forget()
            self._wake.notify_all()
            return job

    def get(self, key: str) -> Job:
        """Give a job; NotServedError if there is none of this key."""
        with self._lock:
            return self._named(key)

    def all(self) -> list[Job]:
        """Give all jobs, the last one first."""
        with self._lock:
            return list(reversed(self._jobs.values()))

    def cancel(self, key: str) -> Job:
        """Stop a job, or take it out of the queue; NotServedError if there is none of this key."""
        with self._lock:
            job = self._named(key)
            if job.state not in _ENDED:
                job.state, job.step = "cancelled", "cancelled"
                if job.process is not None:
                    job.process.kill()
            return job

    def close(self) -> None:
        """Stop what runs; nothing more is begun."""
        with self._lock:
            self._closed = True
            running = [j for j in self._jobs.values() if j.process is not None]
            for job in running:
                if job.process is not None:
                    job.process.kill()
            self._wake.notify_all()
        self._thread.join(timeout=10)

    def _named(self, key: str) -> Job:
        if key not in self._jobs:
            raise NotServedError(key)
        return self._jobs[key]

    def _forget(self) -> None:
        ended = [k for k, j in self._jobs.items() if j.state in _ENDED]
        for key in ended[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[key]

    def _run(self) -> None:
        while True:
            with self._lock:
                job = self._next()
                while job is None and not self._closed:
                    self._wake.wait()
                    job = self._next()
                if self._closed or job is None:
                    return
                job.state, job.step, job.started_s = "running", "starting", time.monotonic()
            self._do(job)

    def _next(self) -> Job | None:
        return next((j for j in self._jobs.values() if j.state == "waiting"), None)

    def _do(self, job: Job) -> None:
        context = own_context()
        ours, theirs = context.Pipe(duplex=False)
        # no daemon: its own readers of slides are processes too
        process = context.Process(target=run_work, args=(job.work, theirs), daemon=False)
        with self._lock:
            if job.is_cancelled():
                return
            process.start()
            job.process = process
        theirs.close()
        final = self._listen(job, ours)
        process.join()
        with self._lock:
            job.process = None
            job.took_s = time.monotonic() - job.started_s
            if job.is_cancelled():
                return
        self._settle(job, final, process.exitcode)

    def _listen(self, job: Job, pipe: Connection) -> tuple[str, Any] | None:
        with suppress(EOFError, OSError):
            while True:
                word, what = pipe.recv()
                if word != "step":
                    return word, what
                with self._lock:
                    if job.state == "running":
                        job.step, job.done, job.total = what
        return None

    def _settle(self, job: Job, final: tuple[str, Any] | None, code: int | None) -> None:
        lines: list[str] = []
        answer: dict[str, Any] = {}
        if final is None:
            lines = [f"error{_died(job.name, code).line()}"]
        elif final[0] == "done":
            try:
                answer = job.on_done(final[1])
            except MomkdError as error:
                lines = [f"error{p.line()}" for p in error.problems]
        else:
            lines = list(final[1])
        with self._lock:
            job.lines = tuple(without_folders(line, self._folders) for line in lines)
            job.answer = answer
            job.state = "failed" if lines else "done"
            job.step = job.state


def without_folders(line: str, folders: Sequence[Path]) -> str:
    """Cut folders of this machine from a line; names of files stay."""
    for folder in sorted(map(str, folders), key=len, reverse=True):
        line = line.replace(f"{folder}/", "")
    return line


def _died(name: str, code: int | None) -> Problem:
    how = f"ended with code {code}"
    if code is not None and code < 0:
        with suppress(ValueError):
            how = f"was ended by {signal.Signals(-code).name}"
    what = f"its process {how} before it was done"
    if code == -signal.SIGKILL:
        what += " (memory ran out, or somebody ended it)"
    return Problem(code="D11", where=name, what=what, remedy="start it again")


def run_work(work: Work, pipe: Connection) -> None:
    """Do a job's work and say how it ended; what its process does."""
    for number in (signal.SIGINT, signal.SIGTERM):  # stopping is the server's business
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    last_s = 0.0
    last_step = ""

    def tell(step: str, done: float, total: float) -> None:
        nonlocal last_s, last_step
        if step != last_step or time.monotonic() - last_s > 0.2 or done >= total > 0:
            last_s, last_step = time.monotonic(), step
            with suppress(OSError):
                pipe.send(("step", (step, done, total)))

    try:
        final: tuple[str, Any] = ("done", work(tell))
    except MomkdError as error:
        final = ("failed", [f"error{p.line()}" for p in error.problems])
    except MemoryError:
        final = ("failed", ["error[S07] job: does not fit into memory; free memory"])
    except Exception as error:  # noqa: BLE001 - our own fault: told to the page, traced for us
        traceback.print_exc(file=sys.stderr)
        kind = type(error).__name__
        final = ("failed", [f"our own fault: {kind}; its traceback stands where momkd serve runs"])
    with suppress(OSError):
        pipe.send(final)


def _die_with_parent() -> None:
    """End this process as soon as the server is gone; there are no orphans."""
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(75)

    threading.Thread(target=wait, daemon=True).start()
