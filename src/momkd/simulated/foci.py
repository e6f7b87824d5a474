"""The exact posterior of a slide whose niche lies in one focus.

A focus is drawn so: a number K ~ Binomial(n_tumour, rho), a centre among the tumour tiles, each as
likely; the niche is the K tumour tiles nearest to it. Both are summed out,

    p(X | m) ~ 1/n sum_c sum_K Bin(K; n, rho) prod_{j among the K nearest to c} exp(l_j(m)),

which lies between what one knows who takes niche tiles for independent, and who sees the niche.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.stats import binom

from momkd.simulated.ceilings import averaged_probability, read_tiles
from momkd.simulated.world import SimulationOptions, World

_NEGLIGIBLE = 1e-9  # chance of a larger focus than any that is summed over


def rank_by_distance(
    places: Int64[np.ndarray, "n_tumour 2"], centre: Int64[np.ndarray, " 2"]
) -> Int64[np.ndarray, " n_tumour"]:
    """Order tumour tiles by their distance from a centre, ties in raster order."""
    return np.argsort(np.square(places - centre).sum(1), kind="stable")


def focus_probability(
    embeddings: Float32[np.ndarray, "n_tiles dim"],
    tumour: Bool[np.ndarray, " n_tiles"],
    places: Int64[np.ndarray, "n_tiles 2"],
    world: World,
    options: SimulationOptions,
    *,
    site_leaning: float | None = None,
) -> float:
    """Give P(true label positive | the slide's embeddings and places), exactly, for one focus.

    Parameters
    ----------
    embeddings, tumour, places
        The tiles in raster order, which of them are tumour, and (column, row) on the grid.
    world, options
        Where the tiles come from; ``options.foci``.
    site_leaning
        Given, the site's leaning is known and used (a shortcut).
    """
    seen = read_tiles(embeddings[tumour], world, options)
    spots = places[tumour]
    n_tumour = len(spots)
    if n_tumour == 0:
        return averaged_probability(seen, np.zeros(len(seen.points)), options, site_leaning)
    largest = int(binom.isf(_NEGLIGIBLE, n_tumour, options.rho))
    log_size = binom.logpmf(np.arange(largest + 1), n_tumour, options.rho)[:, None]
    total = np.full(len(seen.points), -np.inf)
    for centre in spots:
        nearest = rank_by_distance(spots, centre)[:largest]
        grown = np.cumsum(seen.evidence[nearest], axis=0)  # (largest, n_points)
        grown = log_size + np.concatenate([np.zeros((1, grown.shape[1])), grown])
        top = grown.max(axis=0)
        total = np.logaddexp(total, top + np.log(np.exp(grown - top).sum(axis=0)))
    return averaged_probability(seen, total, options, site_leaning)
