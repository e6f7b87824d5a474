"""Attention on the tile grid of a slide, from stored scores: nothing is computed again."""

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from momkd.types import TileGrid

_COLOURS = "cividis"
_WIDTH_IN = 4.6


def draw_attention(
    grid: TileGrid,
    attention: Float[np.ndarray, " n_tiles"],
    *,
    title: str,
    truth: Bool[np.ndarray, " n_tiles"] | None = None,
) -> Figure:
    """Draw each tile where it lies, coloured by its share of the attention.

    Parameters
    ----------
    grid
        Places of the tiles, level-0 px; a tile without a stated side is drawn as wide as the
        smallest step between tiles.
    attention
        Non-negative, sums to 1. Shown as multiples of an even share (1 / n_tiles).
    truth
        Tiles known to matter (simulated slides): a second panel.
    """
    panels = 1 if truth is None else 2
    figure = Figure(figsize=(_WIDTH_IN * panels, _WIDTH_IN), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    side_px0 = grid.tile_px0 or _smallest_step_px0(grid)
    tiles = _paint(axes[0], grid, side_px0, attention * len(attention))
    bar = figure.colorbar(tiles, ax=axes[0], shrink=0.8)
    bar.set_label("attention (multiples of an even share)")
    axes[0].set_title(title, fontsize=9)
    if truth is not None:
        _paint(axes[1], grid, side_px0, truth.astype(np.float64))
        axes[1].set_title("truth: tiles of the niche", fontsize=9)
    return figure


def _paint(
    axes: Axes, grid: TileGrid, side_px0: float, values: Float[np.ndarray, " n_tiles"]
) -> PatchCollection:
    corners = grid.coords_px0
    tiles = PatchCollection(
        [Rectangle((float(x), float(y)), side_px0, side_px0) for x, y in corners],
        cmap=_COLOURS,
        linewidth=0,
    )
    tiles.set_array(values)
    axes.add_collection(tiles)
    low, high = corners.min(axis=0), corners.max(axis=0) + side_px0
    axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    axes.set_xlabel("x (level-0 px)")
    axes.set_ylabel("y (level-0 px)")
    return tiles


def _smallest_step_px0(grid: TileGrid) -> float:
    steps = [np.diff(np.unique(grid.coords_px0[:, axis])) for axis in (0, 1)]
    found = np.concatenate(steps)
    return float(found.min()) if len(found) else 1.0
