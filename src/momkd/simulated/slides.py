"""One simulated slide: tissue on a tile grid, contiguous tile types, a niche, and embeddings."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.ndimage import gaussian_filter

from momkd.simulated.world import TUMOUR, SimulationOptions, World

TILE_PX0 = 512
_TISSUE_SHARE = 0.6
_SMOOTHING_TILES = 2.0
_TYPE_MIX = (6.0, 5.0, 2.0, 2.0, 1.0)  # Dirichlet; about 58 of 154 tiles are tumour


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedSlide:
    """One slide and its truth; tiles in raster order (by y, then x).

    Parameters
    ----------
    slide_id, case
        The slide, and the place of its case in the cohort.
    coords_px0
        (x, y) of each tile's top-left corner in level-0 pixels, on a grid of 512.
    tile_types
        0 tumour, 1 to 4 other tissue.
    niche
        Tiles that show the case's morphology; a subset of tumour.
    embeddings
        One row a tile.
    """

    slide_id: str
    case: int
    coords_px0: Int64[np.ndarray, "n_tiles 2"]
    tile_types: Int64[np.ndarray, " n_tiles"]
    niche: Bool[np.ndarray, " n_tiles"]
    embeddings: Float32[np.ndarray, "n_tiles dim"]

    @property
    def places(self) -> Int64[np.ndarray, "n_tiles 2"]:
        """(column, row) of each tile on the grid."""
        return self.coords_px0 // TILE_PX0


def draw_slide(
    slide_id: str,
    case: int,
    signal: Float64[np.ndarray, " dim"],
    distractor: Float64[np.ndarray, " dim"],
    site: Float64[np.ndarray, " dim"],
    world: World,
    options: SimulationOptions,
    rng: np.random.Generator,
) -> SimulatedSlide:
    """Draw the tiles of one slide of a case.

    Parameters
    ----------
    slide_id, case
        Kept as they are.
    signal, distractor, site
        What the case adds to its niche tiles, to its tumour tiles, and to all of them.
    world, options
        Where the slide comes from.
    rng
        Moved on.
    """
    places, types = _tissue(options.grid_side, rng)
    tumour = types == TUMOUR
    niche = tumour & _niche(places, tumour, options, rng)
    stain = options.stain * rng.standard_normal(len(world.stain)) @ world.stain
    embeddings = rng.standard_normal((len(places), options.dim))
    embeddings += world.tile_types[types] + site + stain
    embeddings += niche[:, None] * signal + tumour[:, None] * distractor
    return SimulatedSlide(
        slide_id=slide_id,
        case=case,
        coords_px0=TILE_PX0 * places,
        tile_types=types,
        niche=niche,
        embeddings=embeddings.astype(np.float32),
    )


def _tissue(side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    # one smooth field outlines the tissue; a second, cut at quantiles, gives contiguous types
    outline, kind = gaussian_filter(
        rng.standard_normal((2, side, side)), (0, _SMOOTHING_TILES, _SMOOTHING_TILES)
    ).reshape(2, -1)
    n_tiles = round(_TISSUE_SHARE * side * side)
    tissue = np.sort(np.argsort(-outline, kind="stable")[:n_tiles])
    y, x = np.divmod(tissue, side)
    rank = np.empty(n_tiles, dtype=np.int64)
    rank[np.argsort(kind[tissue], kind="stable")] = np.arange(n_tiles)
    upper = np.cumsum(rng.dirichlet(_TYPE_MIX))[:-1]
    types = np.searchsorted(upper, (rank + 0.5) / n_tiles)
    return np.stack([x, y], axis=1).astype(np.int64), types.astype(np.int64)


def _niche(
    places: np.ndarray, tumour: np.ndarray, options: SimulationOptions, rng: np.random.Generator
) -> Bool[np.ndarray, " n_tiles"]:
    anywhere = rng.random(len(places)) < options.rho
    if not options.foci or not tumour.any():
        return anywhere
    # as many niche tiles, but those nearest to one tumour tile
    centre = places[rng.choice(np.flatnonzero(tumour))]
    distance = np.where(tumour, np.square(places - centre).sum(1), np.inf)
    niche = np.zeros(len(places), dtype=bool)
    niche[np.argsort(distance, kind="stable")[: (anywhere & tumour).sum()]] = True
    return niche
