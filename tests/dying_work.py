"""What a child process is given to test what becomes of its death."""

import os
import signal
import time

from momkd.errors import DataError


def give(value):
    return value


def die(*_):
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(*_):
    time.sleep(600)


def refuse(where):
    raise DataError.of("O28", where, "is damaged", "write it again")
