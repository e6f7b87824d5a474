"""Heat lies where the niche is painted, to within a tile, to the corners of the slide."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from momkd.reporting.figures import png_of, svg_of
from momkd.reporting.heatmap import draw_layer, draw_layer_over_slide
from momkd.reporting.tile_layers import Layer, evidence_layer
from tests.painted_slides import PAINTING, SIDE, PaintedSlide, darkness, paint

CORNERS = [(0, 0), (5, 0), (0, 5), (5, 5)]
INSIDE = [(2, 3), (3, 3)]
TILE = PAINTING.tile_px


def evidence_of(painted: PaintedSlide) -> Layer:
    dark = darkness(painted)
    cut = (dark[painted.niche].min() + dark[~painted.niche].max()) / 2
    return evidence_layer(np.tanh(100 * (dark - cut)), ("no", "yes"))


def hot_pixels(figure: Figure, panel: int, scale: float) -> np.ndarray:
    """Give (x, y), in level-0 px, of the pixels of a panel that lean to orange."""
    picture = Image.open(io.BytesIO(png_of(figure, dpi=100))).convert("RGB")
    pixels = np.asarray(picture).astype(int)
    axes = figure.axes[panel]
    height = pixels.shape[0]
    v, u = np.nonzero(pixels[..., 0] - pixels[..., 2] > 60)
    places = axes.transData.inverted().transform(np.stack([u + 0.5, height - v - 0.5], axis=1))
    low_x, high_x = sorted(axes.get_xlim())
    low_y, high_y = sorted(axes.get_ylim())
    inside = (places[:, 0] > low_x) & (places[:, 0] < high_x)
    inside &= (places[:, 1] > low_y) & (places[:, 1] < high_y)
    return places[inside] / scale


def reach(points: np.ndarray, tiles: list[tuple[int, int]]) -> np.ndarray:
    """Give how far each point lies outside the nearest of these tiles, in tiles."""
    corners = np.array(tiles)[None] * TILE
    beyond = np.maximum(corners - points[:, None], points[:, None] - corners - TILE)
    return np.maximum(beyond, 0).max(axis=2).min(axis=1) / TILE


@pytest.mark.parametrize(
    ("niche", "over_slide"),
    [(INSIDE, False), ([CORNERS[3]], False), (INSIDE, True), *(([c], True) for c in CORNERS)],
)
def test_heat_lies_on_the_niche(niche: list[tuple[int, int]], over_slide: bool) -> None:
    painted = paint(niche)
    layer = evidence_of(painted)
    assert (layer.values > 0).tolist() == painted.niche.tolist(), "the niche does not show"
    if over_slide:
        grey = painted.picture.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
        figure = draw_layer_over_slide(painted.grid, layer, grey, title="t")
        points = hot_pixels(figure, 1, 1.0)
    else:
        figure = draw_layer(painted.grid, layer, title="t")
        points = hot_pixels(figure, 0, PAINTING.mpp / 1000)
    assert reach(points, niche).max() < 0.2, "heat beside the niche"
    for tile in niche:
        n_there = (reach(points, [tile]) == 0).sum()
        assert n_there > 0.5 * len(points) / len(niche), "a tile of the niche is cold"


def test_the_slide_is_outlined_and_measured() -> None:
    painted = paint(INSIDE)
    figure = draw_layer_over_slide(painted.grid, evidence_of(painted), painted.picture, title="t")
    (outline,) = figure.axes[1].collections
    box = outline.get_paths()[0].get_extents()
    np.testing.assert_allclose([box.x0, box.y0, box.x1, box.y1], [0, 0, 288, 288], atol=TILE / 4)
    for axes in figure.axes[:2]:
        (bar,) = axes.lines
        length_um = np.ptp(bar.get_xdata()) * PAINTING.mpp
        (words,) = [t for t in axes.texts if "mm" in t.get_text()]
        assert float(words.get_text().split()[0]) * 1000 == pytest.approx(length_um)
    assert SIDE * TILE * PAINTING.mpp / 8 < length_um <= SIDE * TILE * PAINTING.mpp / 4
    assert "0.1 mm" in svg_of(figure)
