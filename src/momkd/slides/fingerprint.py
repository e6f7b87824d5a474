"""Which bytes a slide is: a digest of its content, and a stamp that spares reading it again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from momkd.storage import digest_file


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideStamp:
    """Size and time of last change of a slide with its companions.

    Equal stamps are taken for equal content: a file changed in place within the clock's
    resolution and without changing its size is not noticed.

    Parameters
    ----------
    n_bytes
        Of all its files.
    mtime_ns
        The latest of them.
    """

    n_bytes: int
    mtime_ns: int


def stamp_of(path: Path) -> SlideStamp:
    """Look at a slide's files without reading them.

    Raises
    ------
    OSError
        One of them cannot be looked at.
    """
    found = [p.stat() for p in _files_of(path)]
    return SlideStamp(
        n_bytes=sum(s.st_size for s in found), mtime_ns=max(s.st_mtime_ns for s in found)
    )


def digest_slide(path: Path) -> str:
    """Give the SHA-256 of a slide's content; of a slide in several files, that of their digests.

    Raises
    ------
    OSError
        One of its files cannot be read.
    """
    files = _files_of(path)
    if len(files) == 1:
        return digest_file(path)
    lines = [f"{p.name} {digest_file(p)}" for p in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _files_of(path: Path) -> list[Path]:
    """Give the file, and the folder of its name that MIRAX keeps its pixels in."""
    folder = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and folder.is_dir():
        return [path, *sorted(p for p in folder.iterdir() if p.is_file())]
    return [path]
