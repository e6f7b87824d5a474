"""Deep zoom: which box of a slide a tile of the browser shows, and its pixels.

Levels are those of Deep Zoom: the last shows level 0 pixel for pixel, each one before it half as
many along a side, down to one pixel; tiles are squares, cut at the right and lower border.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from momkd.slides.reader import Rgb, Slide, UnreadableRegionError
from momkd.viewer.absence import NotServedError

TILE_PX = 256
_MOST_READ_PX = 4096  # side of a box read at once; larger ones are read in quarters
_OVERVIEW_PX = 2048
_UNREADABLE = 208  # grey: neither glass nor tissue
_QUALITY = 85


@dataclass(frozen=True, slots=True, kw_only=True)
class TileBox:
    """One tile: its corner and the scale on level 0, and its size in the browser."""

    x_px0: float
    y_px0: float
    scale: float
    width_px: int
    height_px: int


def last_level(width_px0: int, height_px0: int) -> int:
    """Give the number of the level that shows every pixel."""
    return math.ceil(math.log2(max(width_px0, height_px0, 1)))


def tile_box(width_px0: int, height_px0: int, level: int, column: int, row: int) -> TileBox:
    """Find the box of a tile; NotServedError where the slide has none."""
    last = last_level(width_px0, height_px0)
    if not 0 <= level <= last:
        raise NotServedError("level")
    scale = 2.0 ** (last - level)
    width, height = math.ceil(width_px0 / scale), math.ceil(height_px0 / scale)
    x, y = column * TILE_PX, row * TILE_PX
    if not (0 <= x < width and 0 <= y < height):
        raise NotServedError("tile")
    return TileBox(
        x_px0=x * scale,
        y_px0=y * scale,
        scale=scale,
        width_px=min(TILE_PX, width - x),
        height_px=min(TILE_PX, height - y),
    )


class SlideTiles:
    """Tiles of one open slide; what the slide's levels are too fine for is cut from an overview."""

    def __init__(self, slide: Slide) -> None:
        self._slide = slide
        self._overview: Rgb | None = None

    def tile(self, level: int, column: int, row: int) -> bytes:
        """Give a tile as JPEG; NotServedError where the slide has none."""
        slide = self._slide
        box = tile_box(slide.width_px0, slide.height_px0, level, column, row)
        if self._is_coarse(box):
            pixels = self._from_overview(box)
        else:
            pixels = self._read(box.x_px0, box.y_px0, box.scale * TILE_PX, TILE_PX)
        image = Image.fromarray(pixels[: box.height_px, : box.width_px])
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=_QUALITY)
        return stream.getvalue()

    def _is_coarse(self, box: TileBox) -> bool:
        """Whether far more would be read for a tile than is shown of it."""
        slide = self._slide
        if max(slide.width_px0, slide.height_px0) / box.scale > _OVERVIEW_PX:
            return False
        return box.scale / slide.downsamples[slide.level_for(box.scale)] > 8

    def _from_overview(self, box: TileBox) -> Rgb:
        if self._overview is None:
            self._overview = self._slide.thumbnail(_OVERVIEW_PX)
        image = Image.fromarray(self._overview)
        fx = image.width / self._slide.width_px0
        fy = image.height / self._slide.height_px0
        right = min(box.x_px0 + box.width_px * box.scale, self._slide.width_px0)
        lower = min(box.y_px0 + box.height_px * box.scale, self._slide.height_px0)
        where = (box.x_px0 * fx, box.y_px0 * fy, right * fx, lower * fy)
        size = (box.width_px, box.height_px)
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=where))

    def _read(self, x_px0: float, y_px0: float, side_px0: float, view_px: int) -> Rgb:
        """Read a square; in quarters where it is large, and grey where it cannot be decoded."""
        slide = self._slide
        level = slide.level_for(side_px0 / view_px)
        if side_px0 / slide.downsamples[level] > _MOST_READ_PX and view_px > 1:
            half, half_px = side_px0 / 2, view_px // 2
            rows = [
                np.hstack([self._read(x_px0 + i * half, y, half, half_px) for i in (0, 1)])
                for y in (y_px0, y_px0 + half)
            ]
            return np.vstack(rows)
        try:
            return slide.read_view(x_px0, y_px0, side_px0, view_px)
        except UnreadableRegionError:
            return np.full((view_px, view_px, 3), _UNREADABLE, np.uint8)
