"""What a slide file is, by its content: the name says nothing."""

from pathlib import Path

from momkd.errors import DataError

_SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"%PDF", "pdf"),
    (b"version https://git-lfs", "a Git-LFS pointer"),
)
# what a name promises; any other name promises nothing
_PROMISES = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".svs": "tiff",
    ".ndpi": "tiff",
    ".scn": "tiff",
    ".bif": "tiff",
}
SLIDE_SUFFIXES = (*_PROMISES, ".mrxs", ".svslide", ".vms", ".vmu", ".dcm")


def kind_of(path: Path) -> str:
    """Give ``jpeg``, ``png``, ``tiff``, or another word for what the first bytes show.

    Raises
    ------
    DataError
        S04 an empty file.
    """
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head:
        raise DataError.of("S04", str(path), "empty file (0 bytes)", "copy it again")
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "an HTML page"
    return "unknown"


def name_note(path: Path, kind: str) -> str | None:
    """Say so where a name promises another content."""
    promised = _PROMISES.get(path.suffix.lower())
    if promised is None or promised == kind:
        return None
    return f"named {path.suffix}, holds {kind}: opened by content"
