"""The bytes of a file: that it is a plain one, that it holds still, and what its content is."""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from momkd.errors import DataError, MomkdError
from momkd.file_names import require_text_name

Kind = Literal["hdf5", "npy", "torch", "pack"]
PACK_MAGIC = b"momkdPK1"
_TRIES = 3


def require_plain_file(path: Path) -> os.stat_result:
    """Turn away what is not a plain readable file, without blocking on it.

    Raises
    ------
    DataError
        F28 no file, a folder, a pipe or device, a dangling or circular link; F29 no permission.
    """
    found = require_reachable(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise DataError.of("F28", str(path), f"is {kind}, not a file", "name a feature file")
    if not os.access(path, os.R_OK):
        raise _no_permission(path, found)
    return found


def require_reachable(path: Path) -> os.stat_result:
    """Give the facts of a path.

    Raises
    ------
    DataError
        F28 nothing there, a name that is no text, a dangling or circular link; F29 no permission.
    """
    require_text_name(path)
    try:
        return path.stat()
    except FileNotFoundError:
        what = "dangling link" if path.is_symlink() else "no such file"
        raise DataError.of("F28", str(path), what, "mend the path") from None
    except PermissionError:
        raise DataError.of("F29", str(path), "no permission to reach it", "chmod") from None
    except OSError as error:
        what = f"not reachable: {error.strerror}"
        raise DataError.of("F28", str(path), what, "mend the link or the path") from None


def read_bytes(path: Path) -> bytes:
    """Read a file whole, while nobody else writes it.

    Raises
    ------
    DataError
        As :func:`require_plain_file`; F30 it changes while it is read, F31 it cannot be read.
    """
    for _ in range(_TRIES):
        before = require_plain_file(path)
        try:
            content = path.read_bytes()
        except PermissionError:
            raise _no_permission(path, before) from None
        except OSError as error:
            raise DataError.of("F31", str(path), f"cannot be read: {error.strerror}") from None
        after = path.stat()
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if same and len(content) == after.st_size:
            return content
    what = f"changes while it is read ({_TRIES} tries)"
    raise DataError.of("F30", str(path), what, "wait until its writer is done")


def kind_of(path: Path, content: bytes) -> Kind:
    """Tell what a feature file is by its first bytes; the name says nothing.

    Raises
    ------
    DataError
        F01 empty, F02 gzip data, F03 anything else.
    """
    if not content:
        raise damaged(path, "empty file (0 bytes)")
    if content.startswith(b"\x1f\x8b"):
        raise DataError.of("F02", str(path), "gzip data, not HDF5", "gunzip it")
    if content.startswith(b"version https://git-lfs"):
        raise DataError.of("F03", str(path), "a Git-LFS pointer, not the file", "git lfs pull")
    if content[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "an HTML page, not HDF5"
        raise DataError.of("F03", str(path), what, "download it again, perhaps with a login")
    if content.startswith(b"\x93NUMPY"):
        return "npy"
    if content.startswith(PACK_MAGIC):
        return "pack"
    # torch.save writes a zip of stored members; before 1.6 it wrote a bare pickle
    if content.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "torch"
    # the signature of HDF5 stands at 0, 512, 1024, 2048, ...
    places = [0, *(512 << i for i in range(20))]
    if any(content[p : p + 8] == b"\x89HDF\r\n\x1a\n" for p in places):
        return "hdf5"
    shown = repr(bytes(content[:8]))
    remedy = "give a feature file (.h5, .pt, .npy, .zarr)"
    raise DataError.of("F03", str(path), f"not HDF5 (begins with {shown})", remedy)


def digest_of_parts(parts: Mapping[str, str]) -> str:
    """Give one SHA-256 for what a bag is made from; of a single part, that part's own."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    listing = "".join(f"{role}\0{sha256}\n" for role, sha256 in sorted(parts.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def damaged(path: Path, what: str) -> MomkdError:
    """Make the refusal of a file that is not whole (F01)."""
    remedy = "copy it again or re-run extraction; its lock may have been cleared"
    return DataError.of("F01", str(path), what, remedy)


def _no_permission(path: Path, found: os.stat_result) -> MomkdError:
    what = f"not readable (mode {stat.filemode(found.st_mode)}, owner {found.st_uid})"
    return DataError.of("F29", str(path), what, "chmod u+r, or ask its owner")
