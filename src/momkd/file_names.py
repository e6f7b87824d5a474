"""Names of files that are made of names of slides: every disk takes them, none hides another."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from momkd.errors import DataError
from momkd.storage import digest_bytes

_LONGEST_NAME_BYTES = 255
_SHORTENED = 50


def file_name(stem: str, ending: str) -> str:
    """Give a file's name that every file system takes: one that is too long ends in a digest.

    ``stem`` is a name already, without a folder in it.
    """
    room = _LONGEST_NAME_BYTES - len(ending.encode())
    if len(stem.encode()) <= room:
        return stem + ending
    kept = stem.encode()[: room - 9].decode("utf-8", "ignore")
    return f"{kept}~{digest_bytes(stem.encode())[:8]}{ending}"


def file_names(stems: Iterable[str], ending: str) -> dict[str, str]:
    """Give each of several names a file of its own, on disks that do not tell case apart too.

    Names that differ in case or in the form of their letters alone end in a digest.
    """
    names = sorted(set(stems))
    alike = Counter(_folded(name) for name in names)
    named = {1: file_name}
    return {n: named.get(alike[_folded(n)], _told_apart)(n, ending) for n in names}


def is_text(path: Path) -> bool:
    """Whether a path is UTF-8; any other bytes are told of as surrogates by the system."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def require_text_name(path: Path) -> None:
    """Turn away a path that is no text: no table, page or HDF5 file could hold it.

    Raises
    ------
    DataError
        F28 it is not UTF-8.
    """
    if not is_text(path):
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise DataError.of("F28", shown, "its name is not UTF-8", "rename it")


def find_named(folder: Path, stem: str, ending: str) -> Path | None:
    """Find the file of a name, whichever of the two :func:`file_names` gave it.

    A stem that can be no file's name has none: whatever it says, no other folder is looked into.
    """
    if {"/", "\\", "\0"} & set(stem) or stem in ("", ".", ".."):
        return None
    for name in (_told_apart(stem, ending), file_name(stem, ending)):
        if (folder / name).is_file():
            return folder / name
    return None


def _told_apart(name: str, ending: str) -> str:
    return file_name(f"{name[:_SHORTENED]}~{digest_bytes(name.encode())[:8]}", ending)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
