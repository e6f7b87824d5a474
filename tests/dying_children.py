"""What child processes run to test that the death of one costs one slide."""

import os
import signal
import time

from momkd.slides import reading_process
from momkd.viewer import tile_process


def serve_slides_and_die(pipe):
    """Serve regions as usual, but die or hang where a slide's name says so."""
    _arm(reading_process)
    reading_process.serve_slides(pipe)


def serve_tiles_and_die(pipe):
    """Serve tiles as usual, but die or hang where a slide's name says so."""
    _arm(tile_process)
    tile_process.serve_tiles(pipe)


def _arm(process):
    """Let the module's ``open_slide`` die of a bad memory access, or hang, by a slide's name."""
    honest = process.open_slide

    def open_or_die(path, rules):
        if path.name.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.name.startswith("hang"):
            time.sleep(600)
        return honest(path, rules)

    process.open_slide = open_or_die
