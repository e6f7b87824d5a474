"""Memory that stays with the process: glibc's allocator told not to give pages back.

By default glibc maps every large tensor anew and unmaps it when it is freed, so each pass touches
fresh pages: on a CPU that is half the time of a step of plain tensors. Kept in the heap, freed
memory is used again as it is.
"""

import ctypes
import functools
import os
import sys

ENVIRONMENT = "MOMKD_MALLOPT"

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_PAD_BYTES = 256 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Set the allocator so, once in a process and for all of it; say whether it is set.

    Only glibc on Linux has this setting; ``MOMKD_MALLOPT=0`` leaves it alone. The price is that a
    process does not shrink again: it stays as large as its largest bag made it.
    """
    if os.environ.get(ENVIRONMENT, "1") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  absent in musl, whose mallopt does nothing
        mallopt = library.mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _PAD_BYTES))
    return all(bool(mallopt(what, value)) for what, value in settings)
