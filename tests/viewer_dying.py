"""What a tile process runs to test that its death costs one slide."""

import os
import signal
import time

from momkd.viewer import tile_process


def serve_tiles_and_die(pipe):
    """Serve as usual, but die of a bad memory access, or hang, where a slide's name says so."""
    honest = tile_process.open_slide

    def open_or_die(path, rules):
        if path.name.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.name.startswith("hang"):
            time.sleep(600)
        return honest(path, rules)

    tile_process.open_slide = open_or_die
    tile_process.serve_tiles(pipe)
