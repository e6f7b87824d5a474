"""What a child process runs to test that its death costs one slide."""

import os
import signal
import time

from momkd.slides import reading_process


def serve_and_die(pipe):
    """Serve as usual, but die of a bad memory access, or hang, where a slide's name says so."""
    honest = reading_process.open_slide

    def open_or_die(path, rules):
        if path.name.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.name.startswith("hang"):
            time.sleep(600)
        return honest(path, rules)

    reading_process.open_slide = open_or_die
    reading_process.serve_slides(pipe)
