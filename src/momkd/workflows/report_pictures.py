"""Heat maps that lie in a run folder, made small enough for a page that travels."""

import io
import re
from pathlib import Path

from PIL import Image

from momkd.reporting.page import Picture
from momkd.workflows.console import say

MOST_PICTURES = 4
_MOST_BYTES = 20_000_000
_MOST_PIXELS = 40_000_000
_SIDE_PX = 900
_EVIDENCE = ".evidence"
_SLOT = re.compile(r"\.slot-\d+-\d+\.png$")
_SAID = {
    False: (
        "attention",
        "Attention says where the model looked, not why, and not where the disease is.",
    ),
    True: (
        "evidence",
        "Evidence says which class a tile resembles in the memory of the model: orange the "
        "positive, blue the negative one. It is no finding about the tissue.",
    ),
}


def find_pictures(run: Path) -> list[Picture]:
    """Give the first pictures of ``*heatmaps`` folders in a run, as ``momkd predict`` leaves them.

    Each is drawn anew from its pixels, at most 900 px wide and high: nothing else that its file
    may hold comes along. What cannot be read is said and passed over.
    """
    found = [*run.glob("*heatmaps/*.png"), *run.glob("*heatmaps/*/*.png")]
    found = sorted((p for p in found if not _SLOT.search(p.name)), key=_order)
    pictures: list[Picture] = []
    for path in found:
        if len(pictures) == MOST_PICTURES:
            break
        content = _redraw(path, run)
        if content is None:
            say(f"left out of the report: {path} is no picture, or too large a one")
            continue
        which = f"{len(pictures) + 1} of {len(found)} heat maps in the run folder"
        inside = path.relative_to(run)
        slide = inside.stem.removesuffix(_EVIDENCE)
        shown, limit = _SAID[inside.stem.endswith(_EVIDENCE)]
        pictures.append(
            Picture(
                figure=content,
                caption=f"{inside.parent.name}: {slide}, {shown} ({which}). {limit}",
                alt=f"heat map of {shown} over slide {slide}",
            )
        )
    return pictures


def _order(path: Path) -> tuple[Path, str, bool]:
    """Put the pictures of a slide side by side, attention first."""
    return path.parent, path.stem.removesuffix(_EVIDENCE), path.stem.endswith(_EVIDENCE)


def _redraw(path: Path, run: Path) -> bytes | None:
    if not path.resolve().is_relative_to(run.resolve()) or path.stat().st_size > _MOST_BYTES:
        return None
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            shown = picture.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return as_jpeg(shown)


def as_jpeg(picture: Image.Image) -> bytes:
    """Make a picture small enough for a page: 900 px at most, on white, pixels and nothing else."""
    shown = picture.convert("RGBA")
    shown.thumbnail((_SIDE_PX, _SIDE_PX))
    paper = Image.new("RGB", shown.size, "white")
    paper.paste(shown, mask=shown.getchannel("A"))
    stream = io.BytesIO()
    paper.save(stream, format="JPEG", quality=82)
    return stream.getvalue()
