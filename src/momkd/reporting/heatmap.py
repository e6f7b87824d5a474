"""Stored scores on the tile grid of a slide: nothing is computed again."""

import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from momkd.reporting.tile_layers import Layer, attention_layer
from momkd.types import TileGrid

_OUTLINE = "#D55E00"
_TISSUE = "#1c2733"
_EMPTY = "0.88"
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_WIDTH_IN = 4.6
# tiles are painted on cells of a quarter of their side, or coarser ones on a very large slide:
# memory does not grow with the slide
_CELLS_A_SIDE = 4
_MOST_CELLS = 1200


def draw_attention(
    grid: TileGrid,
    attention: Float[np.ndarray, " n_tiles"],
    *,
    title: str,
    outline: Bool[np.ndarray, " n_tiles"] | None = None,
    truth: Bool[np.ndarray, " n_tiles"] | None = None,
) -> Figure:
    """Draw each tile where it lies, coloured by its share of the attention.

    Parameters
    ----------
    attention
        Non-negative, sums to 1. Shown as multiples of an even share (1 / n_tiles).

    Others are as of :func:`draw_layer`.
    """
    return draw_layer(grid, attention_layer(attention), title=title, outline=outline, truth=truth)


def draw_layer(
    grid: TileGrid,
    layer: Layer,
    *,
    title: str,
    outline: Bool[np.ndarray, " n_tiles"] | None = None,
    truth: Bool[np.ndarray, " n_tiles"] | None = None,
) -> Figure:
    """Draw each tile where it lies, coloured by its value.

    Parameters
    ----------
    grid
        Places of the tiles, level-0 px; a tile without a stated side is drawn as wide as the
        smallest step between tiles. Axes are in mm where the resolution is known.
    layer
        A value a tile. Where tiles overlap, their mean is shown.
    title
        Shown as it is.
    outline
        Tiles to draw a line around, such as an annotation.
    truth
        Tiles known to matter (simulated slides): a second panel.
    """
    panels = 1 if truth is None else 2
    figure = Figure(figsize=(_WIDTH_IN * panels, _WIDTH_IN), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    add_bar(axes[0], show_layer(axes[0], grid, layer), layer)
    axes[0].set_title(title, fontsize=9, parse_math=False)
    if outline is not None:
        draw_around(axes[0], grid, outline, _unit(grid)[1])
    if truth is not None:
        known = Layer(name="truth", label="", values=truth.astype(np.float64), low=0.0, high=1.0)
        show_layer(axes[1], grid, known)
        axes[1].set_title("truth: tiles of the niche", fontsize=9)
    return figure


def draw_over_slide(
    grid: TileGrid,
    attention: Float[np.ndarray, " n_tiles"],
    thumbnail: UInt8[np.ndarray, "height width 3"],
    *,
    title: str,
    outline: Bool[np.ndarray, " n_tiles"] | None = None,
) -> Figure:
    """Draw attention over a picture of the slide; see :func:`draw_layer_over_slide`."""
    layer = attention_layer(attention)
    return draw_layer_over_slide(grid, layer, thumbnail, title=title, outline=outline)


def draw_layer_over_slide(
    grid: TileGrid,
    layer: Layer,
    thumbnail: UInt8[np.ndarray, "height width 3"],
    *,
    title: str,
    outline: Bool[np.ndarray, " n_tiles"] | None = None,
) -> Figure:
    """Draw tiles over a picture of the slide, beside the picture alone, both with a scale bar.

    The tissue as it was tiled has a dark line around it.

    Parameters
    ----------
    grid
        Places of the tiles; the slide's size must be known.
    layer
        A value a tile.
    thumbnail
        The whole slide.
    title
        Shown as it is.
    outline
        Tiles to draw a line around on the picture alone, such as an annotation.

    Raises
    ------
    ValueError
        The grid does not know the size of its slide, or reaches beyond it.
    """
    figure = Figure(figsize=(2 * _WIDTH_IN, _WIDTH_IN), layout="constrained")
    axes = figure.subplots(1, 2, squeeze=False)[0]
    show_slide(axes[0], grid, thumbnail)
    add_bar(axes[1], show_over_slide(axes[1], grid, layer, thumbnail), layer)
    if outline is not None and outline.any():
        draw_around(axes[0], grid, outline, 1.0)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


def show_slide(
    axes: Axes, grid: TileGrid, thumbnail: UInt8[np.ndarray, "height width 3"]
) -> tuple[float, float, float, float]:
    """Show a picture of the slide with a scale bar; give its extent in level-0 px.

    Raises
    ------
    ValueError
        The grid does not know the size of its slide, or reaches beyond it.
    """
    if grid.width_px0 is None or grid.height_px0 is None:
        raise ValueError(f"{grid.slide_id}: the size of the slide is not known")
    size = np.array([grid.width_px0, grid.height_px0])
    if (grid.coords_px0.max(axis=0) >= size).any():
        raise ValueError(f"{grid.slide_id}: tiles lie beyond the slide")
    extent = (0.0, float(size[0]), float(size[1]), 0.0)
    axes.imshow(thumbnail, extent=extent, interpolation="bilinear")
    axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
    _draw_scale_bar(axes, grid)
    return extent


def show_over_slide(
    axes: Axes, grid: TileGrid, layer: Layer, thumbnail: UInt8[np.ndarray, "height width 3"]
) -> AxesImage:
    """Show tiles over a picture of the slide, and the outline of the tissue as it was tiled.

    The picture is grey there: pink under a colour would make another one of it.

    Raises
    ------
    ValueError
        As :func:`show_slide`.
    """
    grey = np.rint(thumbnail @ _LUMINANCE).astype(np.uint8)
    extent = show_slide(axes, grid, np.repeat(grey[..., None], 3, axis=2))
    image, (left, right, bottom, high) = paint_tiles(grid, layer.values)
    picture = axes.imshow(
        image,
        cmap=layer.colours,
        vmin=layer.low,
        vmax=layer.high,
        alpha=0.6,
        extent=(left, right, bottom, high),
        interpolation="nearest",
    )
    draw_around(axes, grid, np.ones(len(grid), dtype=bool), 1.0, colour=_TISSUE, width=0.7)
    axes.set(xlim=extent[:2], ylim=extent[2:])
    return picture


def add_bar(axes: Axes, picture: AxesImage, layer: Layer) -> None:
    """Put the colour bar beside a picture of tiles: what the values are, and where they end."""
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.8, extend=layer.beyond)
    bar.set_label(layer.label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _draw_scale_bar(axes: Axes, grid: TileGrid) -> None:
    unit, scale = _unit(grid)
    if unit != "mm" or grid.width_px0 is None or grid.height_px0 is None:
        return
    reach_mm = grid.width_px0 * scale
    length_mm = float(10 ** np.floor(np.log10(reach_mm / 4)))
    length_mm *= max(m for m in (1, 2, 5) if m * length_mm <= reach_mm / 4)
    x, y = 0.05 * grid.width_px0, 0.96 * grid.height_px0
    rim = [withStroke(linewidth=4.5, foreground="white")]
    axes.plot([x, x + length_mm / scale], [y, y], color="black", linewidth=3, path_effects=rim)
    paper = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8}
    up = y - 0.025 * grid.height_px0
    axes.text(x, up, f"{length_mm:g} mm", fontsize=7, va="bottom", bbox=paper)


def paint_tiles(
    grid: TileGrid, values: Float64[np.ndarray, " n_tiles"]
) -> tuple[Float64[np.ndarray, "rows columns"], tuple[float, float, float, float]]:
    """Paint tiles on an image of at most 1,200 cells a side.

    Returns
    -------
    array
        Mean value of the tiles that cover a cell; NaN where there is none.
    tuple
        left, right, bottom, top of the image in level-0 px (y downwards).
    """
    side_px0 = grid.tile_px0 or _smallest_step_px0(grid)
    origin = grid.coords_px0.min(axis=0).astype(np.float64)
    extent = grid.coords_px0.max(axis=0) - origin + side_px0
    cell_px0 = max(side_px0 / _CELLS_A_SIDE, float(extent.max()) / _MOST_CELLS)
    start = np.rint((grid.coords_px0 - origin) / cell_px0).astype(np.int64)
    stop = np.rint((grid.coords_px0 - origin + side_px0) / cell_px0).astype(np.int64)
    stop = np.maximum(stop, start + 1)
    columns, rows = (int(n) for n in stop.max(axis=0))
    total = _cover(start, stop, values, rows, columns)
    count = np.rint(_cover(start, stop, np.ones(len(values)), rows, columns))
    image = np.divide(total, count, out=np.full((rows, columns), np.nan), where=count > 0)
    right, bottom = origin + np.array([columns, rows]) * cell_px0
    return image, (float(origin[0]), float(right), float(bottom), float(origin[1]))


def _cover(
    start: np.ndarray, stop: np.ndarray, values: Float64[np.ndarray, " n"], rows: int, columns: int
) -> Float64[np.ndarray, "rows columns"]:
    """Add each value to all cells of its rectangle: corners first, then two cumulative sums."""
    corners = np.zeros((rows + 1, columns + 1))
    for x, y, sign in ((start, start, 1), (stop, start, -1), (start, stop, -1), (stop, stop, 1)):
        np.add.at(corners, (y[:, 1], x[:, 0]), sign * values)
    return corners.cumsum(axis=0).cumsum(axis=1)[:rows, :columns]


def show_layer(axes: Axes, grid: TileGrid, layer: Layer) -> AxesImage:
    """Show tiles alone, on axes in mm where the resolution is known."""
    image, (left, right, bottom, high) = paint_tiles(grid, layer.values)
    unit, scale = _unit(grid)
    axes.set_facecolor(_EMPTY)
    picture = axes.imshow(
        image,
        cmap=layer.colours,
        vmin=layer.low,
        vmax=layer.high,
        extent=(left * scale, right * scale, bottom * scale, high * scale),
        interpolation="nearest",
    )
    axes.set(xlabel=f"x ({unit})", ylabel=f"y ({unit})")
    return picture


def draw_around(
    axes: Axes,
    grid: TileGrid,
    tiles: Bool[np.ndarray, " n_tiles"],
    scale: float,
    *,
    colour: str = _OUTLINE,
    width: float = 1.2,
) -> None:
    """Draw a line around some tiles; ``scale`` is what level-0 px are multiplied by."""
    image, (left, right, bottom, top) = paint_tiles(grid, tiles.astype(np.float64))
    inside = np.pad(np.nan_to_num(image) >= 0.5, 1)  # a rim, so that lines close at the border
    step_x, step_y = (right - left) / image.shape[1], (bottom - top) / image.shape[0]
    x = left + (np.arange(inside.shape[1]) - 0.5) * step_x
    y = top + (np.arange(inside.shape[0]) - 0.5) * step_y
    axes.contour(x * scale, y * scale, inside, levels=[0.5], colors=[colour], linewidths=width)


def _unit(grid: TileGrid) -> tuple[str, float]:
    """Give the unit of the axes, and what level-0 px are multiplied by to reach it."""
    if grid.mpp is None or grid.tile_px is None or grid.tile_px0 is None:
        return "level-0 px", 1.0
    mpp0 = grid.mpp * grid.tile_px / grid.tile_px0
    return "mm", mpp0 / 1000


def _smallest_step_px0(grid: TileGrid) -> float:
    steps = np.concatenate([np.diff(np.unique(grid.coords_px0[:, axis])) for axis in (0, 1)])
    return float(steps.min()) if len(steps) else 1.0
