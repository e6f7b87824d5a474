"""Tiles over tissue: a regular grid whose pitch is physical, in level-0 pixels."""

import numpy as np
from pydantic import Field

from momkd.config import Options, parse_options
from momkd.errors import ConfigError, DataError
from momkd.slides.reader import Slide
from momkd.slides.tissue import TissueMask
from momkd.types import TileGrid


class TilingOptions(Options):
    """How a slide is cut.

    Parameters
    ----------
    tile_px
        Side of a tile in pixels of the view; 896 as in the published work. 512 and 256 are the
        other sizes in use.
    mpp
        Micrometres per pixel of the view; 0.5 is the equivalent of 20x.
    min_tissue
        Least share of a tile that is tissue.
    max_tiles
        A slide with more is refused rather than thinned in silence.
    """

    tile_px: int = Field(896, ge=16, le=8192)
    mpp: float = Field(0.5, gt=0.05, le=20, allow_inf_nan=False)
    min_tissue: float = Field(0.1, gt=0, le=1)
    max_tiles: int = Field(500_000, ge=1)

    @classmethod
    def from_sides(
        cls, tile_px: int | None, tile_um: float | None, mpp: float | None, min_tissue: float
    ) -> "TilingOptions":
        """Make options of any two of side in pixels, side in um, and um per pixel.

        A side in um is kept to the letter: where it is no whole number of pixels, ``mpp`` gives
        way by less than half a pixel's share.

        Raises
        ------
        ConfigError
            G codes: a value out of range; S21 all three are given and contradict one another.
        """
        if tile_px and tile_um and mpp and abs(tile_px * mpp / tile_um - 1) > 1e-6:
            what = f"{tile_px} px of {mpp:g} um make {tile_px * mpp:g} um, not {tile_um:g}"
            raise ConfigError.of("S21", "--tile-um", what, "leave one of the three out")
        if tile_um is not None:
            tile_px = tile_px or max(1, round(tile_um / (mpp or 0.5)))
            mpp = tile_um / tile_px
        cut = {"tile_px": tile_px, "mpp": mpp, "min_tissue": min_tissue}
        given = {key: value for key, value in cut.items() if value is not None}
        return parse_options(cls, given, "command line")

    @property
    def tile_um(self) -> float:
        """Side of a tile in micrometres."""
        return self.tile_px * self.mpp


def lay_tiles(slide: Slide, tissue: TissueMask, options: TilingOptions) -> TileGrid:
    """Lay a grid from the slide's corner and keep the tiles that hold tissue.

    Tiles lie wholly on the slide. Corners are rounded to level-0 pixels one by one, so that no
    error adds up towards the far corner.

    Raises
    ------
    DataError
        S08 no tile holds tissue; S18 more than ``max_tiles``.
    """
    side_px0 = options.tile_um / slide.mpp
    # resolution tags round: what ends within a thousandth of a tile of the edge still counts
    n_x, n_y = (int(n / side_px0 + 1e-3) for n in (slide.width_px0, slide.height_px0))
    if n_x * n_y > 200_000_000:
        what = f"{n_x:,} x {n_y:,} tiles to look at"
        raise DataError.of("S18", str(slide.path), what, "larger tiles, or the right --mpp")
    height, width = tissue.mask.shape
    share = _shares(
        tissue.mask,
        np.arange(n_x + 1) * side_px0 * (width / slide.width_px0),
        np.arange(n_y + 1) * side_px0 * (height / slide.height_px0),
    )
    rows, columns = np.nonzero(share >= options.min_tissue)
    if not len(rows):
        best = f", the fullest tile has {share.max():.0%}" if share.size else ""
        what = f"0 tissue tiles ({tissue.area_mm2:.2f} mm2 of tissue found{best})"
        remedy = "look at its thumbnail; give --tissue FILE if tissue was missed"
        raise DataError.of("S08", str(slide.path), what, remedy)
    if len(rows) > options.max_tiles:
        what = f"{len(rows):,} tissue tiles, limit {options.max_tiles:,}"
        raise DataError.of("S18", str(slide.path), what, "larger tiles, or raise the limit")
    corners = np.rint(np.stack([columns, rows], axis=1) * side_px0).astype(np.int64)
    return TileGrid(
        slide_id=slide.slide_id,
        coords_px0=corners,
        tile_px0=float(side_px0),
        tile_px=options.tile_px,
        mpp=options.mpp,
        width_px0=slide.width_px0,
        height_px0=slide.height_px0,
    )


def _shares(mask: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Give the share of True in each box of a grid whose lines need not be whole pixels."""
    height, width = mask.shape
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    # linear between pixel lines: the exact area of a box with fractional sides
    xs, ys = np.minimum(xs, width), np.minimum(ys, height)
    x0, y0 = np.minimum(xs.astype(int), width - 1), np.minimum(ys.astype(int), height - 1)
    fx, fy = (xs - x0)[None, :], (ys - y0)[:, None]
    a, b = sums[np.ix_(y0, x0)], sums[np.ix_(y0, x0 + 1)]
    c, d = sums[np.ix_(y0 + 1, x0)], sums[np.ix_(y0 + 1, x0 + 1)]
    at = a * (1 - fx) * (1 - fy) + b * fx * (1 - fy) + c * (1 - fx) * fy + d * fx * fy
    boxes = at[1:, 1:] - at[:-1, 1:] - at[1:, :-1] + at[:-1, :-1]
    area = np.diff(ys)[:, None] * np.diff(xs)[None, :]
    return boxes / np.maximum(area, 1e-12)
