"""Slides, opened by content and read region by region; never a whole slide at once.

Every backend gives levels and one primitive, :meth:`Slide.read_level`; scale, resampling and
flattening are done once, here, so that one tissue gives the same tiles in every format.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Rgb = UInt8[np.ndarray, "height width 3"]
Stain = Literal["he", "any"]

_BLOCK_PX = 2048  # read at a time for a thumbnail
_SMALLEST_PX = 64
_AVERAGED_PX = 120_000_000  # a level of so many pixels is read for a thumbnail in a second or two


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRules:
    """How slides are opened.

    Parameters
    ----------
    mpp
        Micrometres per level-0 pixel, instead of what the file says.
    mpp_from_power
        Where a file names its objective but no resolution, take 10 um / power; recorded.
    scene
        Which of several scenes or focal planes of a file, from 0; None refuses such files.
    stain
        ``any`` lets slides through that do not look like H&E in colour: grey, fluorescence, brown
        (immunohistochemistry).
    max_pixels
        Slides of more level-0 pixels are refused.
    max_flat_pixels
        JPEG and PNG, which cannot be read in parts, are refused beyond this; so are files stored
        in blocks larger than this.
    max_bad_share
        A slide with more unreadable tiles than this share is refused.
    """

    mpp: float | None = None
    mpp_from_power: bool = False
    scene: int | None = None
    stain: Stain = "he"
    max_pixels: int = 100_000_000_000
    max_flat_pixels: int = 250_000_000
    max_bad_share: float = 0.05


class UnreadableRegionError(Exception):
    """Pixels of one region cannot be decoded; the rest of the slide may be sound."""


class Slide(ABC):
    """One slide; (x, y) are level-0 pixels, images are RGB.

    Attributes
    ----------
    path, slide_id
        The file, and its name without a slide's extension.
    format
        Backend and vendor, such as ``openslide aperio``.
    width_px0, height_px0
        Size on level 0.
    downsamples
        Of each level, ascending; the first is 1.
    mpp, mpp_source
        Micrometres per level-0 pixel, and where the figure comes from.
    notes
        What a user should know of the file.
    n_holes
        Reads since opening that touched places for which the file holds no pixels.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slide_id = slide_name(path)
        self.format = ""
        self.width_px0 = 0
        self.height_px0 = 0
        self.downsamples: tuple[float, ...] = (1.0,)
        self.mpp = math.nan
        self.mpp_source = ""
        self.notes: list[str] = []
        self.n_holes = 0

    @abstractmethod
    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level, in that level's pixels, wholly inside it.

        Raises
        ------
        UnreadableRegionError
            The file's data of this box are damaged.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def level_size(self, level: int) -> tuple[int, int]:
        """Give (width, height) of a level."""
        d = self.downsamples[level]
        return max(1, int(self.width_px0 / d)), max(1, int(self.height_px0 / d))

    def level_for(self, downsample: float) -> int:
        """Give the coarsest level that is still no coarser than wanted."""
        fit = [i for i, d in enumerate(self.downsamples) if d <= downsample * 1.01]
        return fit[-1] if fit else 0

    def read_view(
        self, x_px0: int | float, y_px0: int | float, side_px0: int | float, view_px: int
    ) -> Rgb:
        """Read a square of level-0 side ``side_px0`` as ``view_px`` x ``view_px``.

        Corners need not be whole pixels: the view is resampled from the box itself. What lies
        beyond the slide is white.
        """
        level = self.level_for(side_px0 / view_px)
        d = self.downsamples[level]
        width, height = self.level_size(level)
        left, top, right, bottom = (
            v / d for v in (x_px0, y_px0, x_px0 + side_px0, y_px0 + side_px0)
        )
        pad = 2  # the resampling kernel looks beyond the box
        x0, y0 = max(0, math.floor(left) - pad), max(0, math.floor(top) - pad)
        x1, y1 = min(width, math.ceil(right) + pad), min(height, math.ceil(bottom) + pad)
        ox, oy = min(0, math.floor(left)), min(0, math.floor(top))
        ex, ey = max(x1, math.ceil(right)), max(y1, math.ceil(bottom))
        if x1 <= x0 or y1 <= y0:
            return np.full((view_px, view_px, 3), 255, np.uint8)
        found = self.read_level(level, x0, y0, x1 - x0, y1 - y0)
        px, py = min(x0, ox if ox < 0 else x0), min(y0, oy if oy < 0 else y0)
        if (px, py, ex, ey) != (x0, y0, x1, y1):
            canvas = np.full((ey - py, ex - px, 3), 255, np.uint8)
            canvas[y0 - py : y1 - py, x0 - px : x1 - px] = found
            found = canvas
        box = (left - px, top - py, right - px, bottom - py)
        image = Image.fromarray(found)
        view = image.resize((view_px, view_px), Image.Resampling.BICUBIC, box=box)
        return np.asarray(view)

    def thumbnail(self, max_px: int = 2048, on_block: Callable[[], None] | None = None) -> Rgb:
        """Read the whole slide, its longer side ``max_px`` pixels at most, in blocks.

        Blocks that cannot be decoded stay white; ``on_block`` is called after each block. The
        finest level of affordable size is averaged, which for a small slide is level 0: what wrote
        a file's pyramid, and how it compressed it, shall not decide where tissue is.
        """
        scale = max(1.0, max(self.width_px0, self.height_px0) / max_px)
        level = self._level_to_average(scale)
        d = self.downsamples[level]
        width, height = self.level_size(level)
        out_w, out_h = max(1, round(self.width_px0 / scale)), max(1, round(self.height_px0 / scale))
        picture = np.full((out_h, out_w, 3), 255, np.uint8)
        step = max(1, int(_BLOCK_PX * d / scale))  # in pixels of the picture
        for v in range(0, out_h, step):
            for u in range(0, out_w, step):
                u1, v1 = min(out_w, u + step), min(out_h, v + step)
                left, right = u * width / out_w, u1 * width / out_w
                top, bottom = v * height / out_h, v1 * height / out_h
                x0, y0 = int(left), int(top)
                x1, y1 = min(width, math.ceil(right)), min(height, math.ceil(bottom))
                block = self._read_what_can_be(level, x0, y0, x1 - x0, y1 - y0)
                box = (left - x0, top - y0, min(right, x1) - x0, min(bottom, y1) - y0)
                image = Image.fromarray(block)
                small = image.resize((u1 - u, v1 - v), Image.Resampling.BOX, box=box)
                picture[v:v1, u:u1] = np.asarray(small)
                if on_block is not None:
                    on_block()
        return picture

    def _level_to_average(self, scale: float) -> int:
        coarsest = self.level_for(scale)
        for level in range(coarsest):
            width, height = self.level_size(level)
            if width * height <= _AVERAGED_PX:
                return level
        return coarsest

    def _read_what_can_be(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box; where it is damaged, its quarters, and leave the smallest ones white."""
        try:
            return self.read_level(level, x, y, width, height)
        except UnreadableRegionError:
            out = np.full((height, width, 3), 255, np.uint8)
            half_w, half_h = (width + 1) // 2, (height + 1) // 2
            if max(half_w, half_h) < _SMALLEST_PX:
                return out
            for v in (0, half_h):
                for u in (0, half_w):
                    w, h = min(half_w, width - u), min(half_h, height - v)
                    if w > 0 and h > 0:
                        part = self._read_what_can_be(level, x + u, y + v, w, h)
                        out[v : v + h, u : u + w] = part
            return out

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def slide_name(path: Path) -> str:
    """Give the slide's id: the file name without its last extension (and ``.ome``)."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem
