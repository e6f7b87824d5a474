"""A first Ctrl-C or SIGTERM asks the work to save and stop; a second one ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.synchronize import Event
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal(stop: Event) -> Iterator[None]:
    """Set ``stop`` on the first signal; exit with 128 + its number on the second."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def die_with_parent() -> None:
    """End this process as soon as the one that started it is gone; there are no orphans."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(75)

    threading.Thread(target=wait, daemon=True).start()


def ignore_signals() -> None:
    """Leave stopping to the parent: what a worker process does at its start."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
