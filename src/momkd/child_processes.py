"""How child processes are started: each begins with this package, not with the caller's script.

Python's own way to start a process afresh imports the script that the parent runs. A script that
calls ``momkd.train`` without ``if __name__ == "__main__":`` would then train again in each reader
of files, which starts readers in its turn. What our children do stands in this package, so they
have no need of that script: they are not told of it.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

_WHERE_IT_CAME_FROM = ("__spec__", "__file__")
_one_at_a_time = threading.Lock()


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
