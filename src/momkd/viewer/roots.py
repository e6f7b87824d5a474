"""The folders that slides are served from: nothing beyond them, wherever links point."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from momkd.data.layouts.material import SUFFIXES
from momkd.errors import DataError, IntegrityError
from momkd.file_names import is_text
from momkd.slides.formats import SLIDE_SUFFIXES
from momkd.slides.reader import slide_name

FEATURE_SUFFIXES = tuple(s for s in SUFFIXES if s not in (".zarr", ".pack"))
"""Feature files that are one file; stores and packs are for the command line."""

_LONGEST_NAME = 4096
_OUTSIDE = "is no slide or feature file below the folders given with --slides"


class SlideRoots:
    """Folders given by the user; every path is resolved before it is believed.

    Parameters
    ----------
    folders
        Searched through; links to folders are not followed, links to files only where their target
        lies below one of the folders too.

    Raises
    ------
    DataError
        F28 not a folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise DataError.of("F28", str(folder), "is no folder", "mend --slides")
        self.folders = tuple(dict.fromkeys(f.resolve() for f in folders))

    def find(self) -> list[Path]:
        """Find slides and feature files, by resolved path, in order of their names."""
        found = (
            path
            for folder in self.folders
            for path in folder.rglob("*")
            if is_named_well(path) and path.is_file()
        )
        return sorted({p.resolve() for p in found if self._holds(p)})

    def slides(self) -> dict[str, Path]:
        """Give slides by id; a name that stands for several is left out: nobody could tell them."""
        by_id: dict[str, list[Path]] = {}
        for path in self.find():
            if path.suffix.lower() in SLIDE_SUFFIXES:
                by_id.setdefault(slide_name(path), []).append(path)
        return {name: paths[0] for name, paths in by_id.items() if len(paths) == 1}

    def name_of(self, path: Path) -> str:
        """Give the path below its folder, as users see it; the bare name of any other file."""
        for folder in self.folders:
            if path.is_relative_to(folder):
                return str(path.relative_to(folder))
        return path.name

    def resolve(self, given: str) -> Path:
        """Give the file that a user names: a path below one of the folders, or a whole one.

        Whether a file exists elsewhere cannot be learnt from the refusal.

        Raises
        ------
        IntegrityError
            D10 not below the folders, or neither a slide nor a feature file.
        """
        if 0 < len(given) <= _LONGEST_NAME and "\0" not in given:
            for folder in self.folders:
                path = folder / given
                try:
                    if is_named_well(path) and path.is_file() and self._holds(path):
                        return path.resolve()
                except OSError:  # a name too long for the disk, a folder that may not be entered
                    continue
        raise IntegrityError.of("D10", given[:80], _OUTSIDE, "name a file of the list")

    def _holds(self, path: Path) -> bool:
        parts = [path]
        if path.suffix.lower() == ".mrxs":  # most of it lies in a folder of the same name
            parts.append(path.with_suffix(""))
        resolved = [p.resolve() for p in parts]
        return all(any(p.is_relative_to(f) for f in self.folders) for p in resolved)


def is_named_well(path: Path) -> bool:
    """Whether a name is one of a slide or a feature file, not hidden, and can be told as text."""
    suffixes = (*SLIDE_SUFFIXES, *FEATURE_SUFFIXES)
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and is_text(path)


def key_of(kind: str, name: str) -> str:
    """Give what stands for a name in addresses: no id of a patient, and nothing to escape."""
    return hashlib.sha256(f"{kind}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
