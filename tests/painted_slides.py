"""A painted slide whose niche is known, with tiles to its very corners."""

from dataclasses import dataclass, replace

import numpy as np

from momkd.simulated.painting import Looks, paint_slide
from momkd.simulated.slides import TILE_PX0
from momkd.simulation import PaintingOptions, SimulatedSlide, SimulationOptions, simulate
from momkd.types import TileGrid

SIDE = 6
PAINTING = PaintingOptions(tile_px=48, mpp=2.0)
_WORLD = {"n_cases": 2, "n_genes": 20, "dim": 24, "n_sites": 1, "grid_side": SIDE, "nu": 4.0}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaintedSlide:
    """Level 0 of the slide, its tiles, and which of them are niche."""

    slide: SimulatedSlide
    picture: np.ndarray
    grid: TileGrid
    niche: np.ndarray


def paint(niche_places: list[tuple[int, int]], slide_id: str = "painted") -> PaintedSlide:
    """Paint tumour all over a slide, with a niche at these (column, row) places of a 6 x 6 grid."""
    places = np.array([(x, y) for y in range(SIDE) for x in range(SIDE)])
    niche = np.array([tuple(p) in set(niche_places) for p in places.tolist()])
    options = SimulationOptions(**_WORLD)
    slide = replace(
        simulate(options).slides[0],
        slide_id=slide_id,
        coords_px0=TILE_PX0 * places,
        tile_types=np.zeros(len(places), dtype=np.int64),
        niche=niche,
        embeddings=np.zeros((len(places), 24), np.float32),
    )
    looks = Looks(morphology=np.array([1.5, 0.0]), distractor=0.0)
    picture = paint_slide(slide, looks, options, PAINTING, np.random.default_rng(5))
    side_px0 = SIDE * PAINTING.tile_px
    grid = TileGrid(
        slide_id=slide_id,
        coords_px0=places * PAINTING.tile_px,
        tile_px0=float(PAINTING.tile_px),
        tile_px=PAINTING.tile_px,
        mpp=PAINTING.mpp,
        width_px0=side_px0,
        height_px0=side_px0,
    )
    return PaintedSlide(slide=slide, picture=picture, grid=grid, niche=niche)


def darkness(painted: PaintedSlide) -> np.ndarray:
    """Give the share of dark pixels of every tile: high where the niche's nuclei lie."""
    side, dark = PAINTING.tile_px, painted.picture.max(axis=2) < 150
    corners = painted.grid.coords_px0.tolist()
    return np.array([dark[y : y + side, x : x + side].mean() for x, y in corners])
