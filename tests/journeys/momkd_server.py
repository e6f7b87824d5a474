"""A process that has the package imported already, and forks a momkd from itself when asked.

Most of what a short command takes is the import of torch and pandas. Here that is paid once; each
command still is a process of its own, with its own exit code, environment and files.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import momkd.workflows
from momkd.cli import main

# what commands import where they use it
_LATER = (
    *("lightning_fabric", "matplotlib.figure", "scipy.optimize", "scipy.spatial", "scipy.stats"),
    *("sklearn.feature_selection", "sklearn.linear_model", "sklearn.metrics", "safetensors.torch"),
)
_MENDED_AFTER_FORKS = {"jemalloc_bg_thd"}  # starts its thread again in the child


def serve() -> None:
    """Read a request a line, fork a momkd, tell its number, and how it ended."""
    own = pkgutil.walk_packages(momkd.workflows.__path__, "momkd.workflows.")
    for name in (*_LATER, *(module.name for module in own)):
        with suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(name)
    gc.freeze()  # what a collection does not touch need not be copied
    _say({"threads_lost": len(_threads() - _MENDED_AFTER_FORKS)})
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            _become_momkd(json.loads(line))
        _say({"pid": number})
        _, status = os.waitpid(number, 0)
        _say({"code": os.waitstatus_to_exitcode(status)})


def _threads() -> set[str]:
    """Give the threads that a fork would not take along: what they hold would stay locked."""
    tasks = Path("/proc/self/task").iterdir()
    return {(t / "comm").read_text().strip() for t in tasks if t.name != str(os.getpid())}


def _become_momkd(asked: dict[str, Any]) -> None:
    """Run the command and end with its exit code."""
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        place = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(place, number)
        os.close(place)
        stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        stream.reconfigure(write_through=True)
        setattr(sys, name, stream)
    os.chdir(asked["cwd"])
    sys.argv = ["momkd", *asked["args"]]
    code: Any = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # not through the interpreter's end, which would copy and clear every module that is shared
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _say(words: dict[str, int]) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    serve()
