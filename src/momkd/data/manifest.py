"""Digests of feature files, as first read: what later reads are compared with."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from momkd.storage import write_text
from momkd.types import SlideFile

_COLUMNS = ("slide_id", "file", "sha256", "n_tiles", "dim", "encoder", "tile_px", "mpp")


def read_manifest(path: Path) -> dict[str, str]:
    """Read file name -> SHA-256 of an earlier examination."""
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["file"]: row["sha256"] for row in csv.DictReader(stream)}


def write_manifest(path: Path, slides: Sequence[SlideFile]) -> None:
    """Write the digests of examined files as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for s in sorted(slides, key=lambda s: s.slide_id):
        facts = (s.slide_id, s.path.name, s.sha256, s.n_tiles, s.dim, s.encoder, s.tile_px, s.mpp)
        writer.writerow(facts)
    write_text(path, text.getvalue())
