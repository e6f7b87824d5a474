"""Figures of a class memory: slots on tissue with their tiles, and the map of its space.

Nothing is computed here: places, similarities and pixels are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.patches import Rectangle

from momkd.reporting.heatmap import add_bar, show_layer, show_over_slide
from momkd.reporting.tile_layers import CLASS_COLOURS, Layer
from momkd.reporting.words import short
from momkd.types import TileGrid

_MARK = "#d4145a"
_GREY = "0.55"
_MAP_IN, _CROP_IN, _ROW_IN = 3.1, 1.3, 2.7
_LABELLED = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """A tile as pixels, None where these are not at hand, and what is said under it."""

    pixels: UInt8[np.ndarray, "side side 3"] | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotSheet:
    """A slot on the slide of its top tile, and its top tiles.

    Parameters
    ----------
    title
        The slot, and what is said of it.
    grid, layer
        Tiles of that slide, and their similarity to the slot.
    thumbnail
        The slide; None where its pixels are not at hand.
    marked
        Corners of the top tiles that lie on it, level-0 px; they are framed.
    crops
        Top tiles, of all slides.
    """

    title: str
    grid: TileGrid
    layer: Layer
    thumbnail: UInt8[np.ndarray, "height width 3"] | None
    marked: Sequence[tuple[int, int]] = ()
    crops: Sequence[Crop] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapPoints:
    """Points of one kind on the map of a memory's space.

    Parameters
    ----------
    name
        In the legend.
    places
        In the plane of the two principal components.
    labels
        Class of each, -1 where it is not known.
    mark
        Sign that is drawn, as matplotlib names it.
    words
        Beside each point; empty for none.
    """

    name: str
    places: Float64[np.ndarray, "n 2"]
    labels: np.ndarray
    mark: str
    words: Sequence[str] = field(default_factory=tuple)


def draw_sheets(sheets: Sequence[SlotSheet], *, n_crops: int) -> Figure:
    """Draw slots one below another: the slide with its similarity, and ``n_crops`` tiles beside.

    Tiles without pixels leave their place empty; with ``n_crops`` 0 the maps stand alone.
    """
    if not sheets:
        raise ValueError("no slot to draw")
    columns = (n_crops + 1) // 2
    width = _MAP_IN * 1.25 + _CROP_IN * columns
    figure = Figure(figsize=(width, _ROW_IN * len(sheets)), layout="constrained")
    ratios = [_MAP_IN * 1.25, *([_CROP_IN * columns] if columns else [])]
    grid = figure.add_gridspec(len(sheets), len(ratios), width_ratios=ratios)
    for row, sheet in enumerate(sheets):
        _draw_map(figure.add_subplot(grid[row, 0]), sheet)
        if columns:
            _draw_crops(figure, grid[row, 1], sheet.crops, columns, n_crops)
    return figure


def _draw_map(axes: Axes, sheet: SlotSheet) -> None:
    scale = 1.0
    if sheet.thumbnail is not None:
        picture = show_over_slide(axes, sheet.grid, sheet.layer, sheet.thumbnail)
    else:
        picture = show_layer(axes, sheet.grid, sheet.layer)
        scale = _mm_a_px0(sheet.grid)
        axes.tick_params(labelsize=6)
        axes.xaxis.label.set_fontsize(7)
        axes.yaxis.label.set_fontsize(7)
    add_bar(axes, picture, sheet.layer)
    side = (sheet.grid.tile_px0 or 0.0) * scale
    for x, y in sheet.marked:
        corner = (x * scale, y * scale)
        axes.add_patch(
            Rectangle(corner, side, side, fill=False, edgecolor=_MARK, linewidth=1.1, zorder=4)
        )
    axes.set_title(sheet.title, fontsize=8, parse_math=False, loc="left")


def _draw_crops(
    figure: Figure, place: SubplotSpec, crops: Sequence[Crop], columns: int, n_crops: int
) -> None:
    inner = place.subgridspec(2 if n_crops > 1 else 1, columns)
    for number in range(n_crops):
        axes = figure.add_subplot(inner[number // columns, number % columns])
        axes.set(xticks=[], yticks=[])
        crop = crops[number] if number < len(crops) else None
        if crop is None:
            axes.set_axis_off()
            continue
        axes.set_title(crop.words, fontsize=6, parse_math=False, pad=2)
        if crop.pixels is None:
            axes.text(0.5, 0.5, "no pixels", ha="center", va="center", fontsize=6, color=_GREY)
        else:
            axes.imshow(crop.pixels, interpolation="bilinear")


def draw_map(
    kinds: Sequence[MapPoints],
    shares: Float64[np.ndarray, " 2"],
    class_names: Sequence[str],
) -> Figure:
    """Draw a memory's space in the plane of its two principal components.

    Colour says the class (grey: not known), the sign what a point is.

    Parameters
    ----------
    kinds
        In the order they are drawn, later ones on top.
    shares
        Share of the variance that each axis shows.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    for points in kinds:
        for label in (-1, 0, 1):
            own = points.labels == label
            if not own.any():
                continue
            colour = _GREY if label < 0 else CLASS_COLOURS[label]
            of = "" if label < 0 else f", {short(class_names[label], 20)}"
            axes.scatter(
                points.places[own, 0],
                points.places[own, 1],
                marker=points.mark,
                s=46 if points.words else 20,
                facecolors=colour if points.words else "none",
                edgecolors=colour,
                linewidths=0.9,
                alpha=0.9,
                label=f"{points.name}{of} ({int(own.sum())})",
            )
        if len(points.words) <= _LABELLED:
            for (x, y), word in zip(points.places, points.words, strict=False):
                axes.annotate(word, (x, y), (3, 3), textcoords="offset points", fontsize=6)
    axes.set_xlabel(f"first component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({shares[1]:.0%} of the variance)")
    axes.set_aspect("equal", adjustable="datalim")
    legend = axes.legend(fontsize=7, loc="best")
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _mm_a_px0(grid: TileGrid) -> float:
    if grid.mpp is None or grid.tile_px is None or grid.tile_px0 is None:
        return 1.0
    return grid.mpp * grid.tile_px / grid.tile_px0 / 1000
