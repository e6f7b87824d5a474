"""Single tiles of a slide as small pictures, and the slide as a whole: what people look at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from momkd.slides.reader import Slide, SlideRules, UnreadableRegionError


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRequest:
    """What is to be seen of one slide.

    Parameters
    ----------
    path, rules
        The slide, and how it is opened.
    boxes
        (x, y, side) of each square, in level-0 pixels.
    crop_px, thumbnail_px
        Side of a crop, and the longer side of the picture of the slide.
    """

    path: Path
    rules: SlideRules
    boxes: tuple[tuple[int, int, float], ...] = ()
    crop_px: int = 160
    thumbnail_px: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crops:
    """What was asked for, in its order; a square that cannot be decoded is white and named.

    Parameters
    ----------
    width_px0, height_px0, mpp
        Of the slide.
    """

    width_px0: int
    height_px0: int
    mpp: float
    thumbnail: UInt8[np.ndarray, "height width 3"]
    pixels: UInt8[np.ndarray, "n side side 3"]
    bad: tuple[int, ...] = ()


def cut_crops(slide: Slide, request: CropRequest, on_block: Callable[[], None]) -> Crops:
    """Read the squares and the picture; ``on_block`` is called now and then."""
    side = request.crop_px
    pixels = np.full((len(request.boxes), side, side, 3), 255, np.uint8)
    bad = []
    for row, (x, y, side_px0) in enumerate(request.boxes):
        try:
            pixels[row] = slide.read_view(x, y, side_px0, side)
        except UnreadableRegionError:
            bad.append(row)
        on_block()
    return Crops(
        width_px0=slide.width_px0,
        height_px0=slide.height_px0,
        mpp=slide.mpp,
        thumbnail=slide.thumbnail(request.thumbnail_px, on_block),
        pixels=pixels,
        bad=tuple(bad),
    )
