"""How child processes are started: each begins with this package, not with the caller's script.

Python's own way to start a process afresh imports the script that the parent runs. A script that
calls ``momkd.train`` without ``if __name__ == "__main__":`` would then train again in each reader
of files, which starts readers in its turn. What our children do stands in this package, so they
have no need of that script: they are not told of it.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

from momkd.errors import MomkdError

_WHERE_IT_CAME_FROM = ("__spec__", "__file__")
_one_at_a_time = threading.Lock()
T = TypeVar("T")


class LostChildError(Exception):
    """A child process died, or was silent for too long, before it gave its answer."""


class OwnProcess(SpawnProcess):
    """A process that is started afresh and imports what it runs, nothing else.

    Whatever it is given must be importable by name: nothing defined in the script that runs.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the place that multiprocessing asks
        with _nameless_script(sys.modules["__main__"]):
            return SpawnProcess._Popen(process_obj)


class _OwnContext(SpawnContext):
    Process = OwnProcess


def own_context() -> SpawnContext:
    """Give the context that every child process of this package is started from."""
    return _OwnContext()


def run_in_child(work: Callable[..., T], *args: Any, timeout_s: float) -> T:
    """Do one piece of work that may crash or hang, in a process of its own.

    Parameters
    ----------
    work, args
        A function of this package and what it is given; its answer travels back.
    timeout_s
        A process without an answer by then is ended.

    Raises
    ------
    MomkdError
        What the work refused.
    LostChildError
        The process crashed or took too long; the message says which.
    """
    context = own_context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, work, args), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            raise LostChildError(f"took over {timeout_s:g} s")
        answer = ours.recv()
    except (EOFError, OSError):
        raise LostChildError("crashed") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(answer, MomkdError):
        raise answer
    return answer


class KeptChild:
    """A process that is kept for many questions: started when first needed, again if it died.

    Parameters
    ----------
    serve, args
        A function of this package, called with the child's end of the pipe and these; see
        :func:`answer_until_alone`.
    """

    def __init__(self, serve: Callable[..., None], *args: Any) -> None:
        self._serve, self._args = serve, args
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.is_alive()

    def ready(self) -> Connection:
        """Give our end of the pipe, of a process that was alive a moment ago."""
        if self._pipe is not None and self.is_running:
            return self._pipe
        self.stop()
        context = own_context()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._serve, args=(theirs, *self._args), daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def answer_until_alone(pipe: Connection, answer: Callable[[Any], Any]) -> None:
    """Answer what comes through the pipe until nobody asks; what a kept child does."""
    leave_stopping_to_the_parent()
    parent = parent_process()
    with suppress(EOFError, OSError):
        while parent is not None and parent.is_alive():
            if pipe.poll(1.0):
                pipe.send(answer(pipe.recv()))


def leave_stopping_to_the_parent() -> None:
    """Ignore what a terminal sends to all: the parent ends its children."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _answer(pipe: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    leave_stopping_to_the_parent()
    try:
        answer = work(*args)
    except MomkdError as error:
        answer = error
    with suppress(OSError):  # the parent is gone, and nobody asks
        pipe.send(answer)


@contextmanager
def _nameless_script(script: ModuleType) -> Iterator[None]:
    """Hide where a script came from while a process is started; threads take turns."""
    with _one_at_a_time:
        kept = {n: script.__dict__[n] for n in _WHERE_IT_CAME_FROM if n in script.__dict__}
        for name in _WHERE_IT_CAME_FROM:
            setattr(script, name, None)
        try:
            yield
        finally:
            for name in _WHERE_IT_CAME_FROM:
                if name in kept:
                    setattr(script, name, kept[name])
                else:
                    delattr(script, name)
