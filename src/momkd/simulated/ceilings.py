"""How well anyone could do on simulated cases: exact Bayes ceilings.

With u the label's liability, V its variance and v the part of it that the data explain, the best
score is s ~ N(0, v) and P(positive | s) = Phi((s - t) / sqrt(V - v)). What the tiles of a slide
say of its morphology m is summed over a grid of m, with the niche tiles unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.special import logsumexp, ndtr, ndtri

from momkd.simulated.world import SimulationOptions, World

_SPAN_SD = 5.0  # the grid of m reaches this many prior SDs to each side


def liability_threshold(options: SimulationOptions) -> float:
    """Give t such that the share ``prevalence`` of cases has a liability above it."""
    return float(-ndtri(options.prevalence) * np.sqrt(options.variance))


def positive_probability(
    mean: Float64[np.ndarray, "*shape"], explained: float, options: SimulationOptions
) -> Float64[np.ndarray, "*shape"]:
    """Give P(true label positive) where the data put the liability's mean at ``mean``.

    Parameters
    ----------
    mean
        E[u | data].
    explained
        Variance of that mean over cases.
    options
        The law of the label.
    """
    rest = np.sqrt(options.variance - explained)
    return ndtr((mean - liability_threshold(options)) / rest)


def recorded_probability(
    probability: Float64[np.ndarray, "*shape"], options: SimulationOptions
) -> Float64[np.ndarray, "*shape"]:
    """Turn P(true label positive) into P(recorded label positive): a share eta is flipped."""
    return options.eta + (1 - 2 * options.eta) * probability


def best_auroc(explained: float, options: SimulationOptions) -> float:
    """Give the AUROC, against recorded labels, of the best score on Gaussian data.

    AUC(v) = P(s1 > s0) where s1, s0 have densities f p~ and f (1 - p~), f that of N(0, v) and
    p~ the probability of a positive recorded label.

    Parameters
    ----------
    explained
        v, the variance of E[u | data]; 0 gives 0.5, the value for data that say nothing.
    options
        The law of the label.
    """
    if explained == 0:
        return 0.5
    standard = np.linspace(-9.0, 9.0, 8001)
    positive = recorded_probability(
        positive_probability(np.sqrt(explained) * standard, explained, options), options
    )
    density = np.exp(-(standard**2) / 2)
    of_positives, of_negatives = density * positive, density * (1 - positive)
    below = np.cumsum(of_negatives) - of_negatives / 2
    return float(of_positives @ below / (of_positives.sum() * of_negatives.sum()))


def explained_variance(options: SimulationOptions, sources: Sequence[str]) -> float:
    """Give the variance of E[u | data] where the data are some of the sources.

    Parameters
    ----------
    options
        The law of the label.
    sources
        Any of ``morphology`` (m known exactly), ``rna`` (with many genes), ``latents``, ``site``.
    """
    a_squared = np.square(options.a)
    precision = np.zeros(len(a_squared))
    if "morphology" in sources:
        precision[:2] += options.sigma_m**-2
    if "rna" in sources:
        precision += options.sigma_r**-2
    share = np.ones_like(precision) if "latents" in sources else precision / (1 + precision)
    site = options.gamma**2 if "site" in sources else 0.0
    return float(a_squared @ share) + site


def closed_ceilings(options: SimulationOptions) -> dict[str, float]:
    """Give the best AUROC of each kind of data that has a closed form, sites unknown."""
    kinds = {
        "latents": ["latents"],
        "rna": ["rna"],
        "morphology": ["morphology"],
        "morphology_and_rna": ["morphology", "rna"],
    }
    return {
        name: best_auroc(explained_variance(options, sources), options)
        for name, sources in kinds.items()
    }


def known_probability(
    programmes: Float64[np.ndarray, "n_cases 6"],
    morphology: Float64[np.ndarray, "n_cases 2"] | None,
    options: SimulationOptions,
) -> Float64[np.ndarray, " n_cases"]:
    """Give P(true label positive) to whoever knows the morphology exactly, or all latents.

    Parameters
    ----------
    programmes
        z of each case; looked at only where ``morphology`` is None.
    morphology
        m of each case; None: all latents are known.
    options
        The law of the label; sites unknown.
    """
    a = np.asarray(options.a)
    if morphology is None:
        mean, known = programmes @ a, "latents"
    else:
        mean, known = morphology @ a[:2] / (1 + options.sigma_m**2), "morphology"
    return positive_probability(mean, explained_variance(options, [known]), options)


def slide_probability(
    embeddings: Float32[np.ndarray, "n_tiles dim"],
    tumour: Bool[np.ndarray, " n_tiles"],
    world: World,
    options: SimulationOptions,
    *,
    niche: Bool[np.ndarray, " n_tiles"] | None = None,
    site_leaning: float | None = None,
    n_points: int | None = None,
) -> float:
    """Give P(true label positive | the slide's embeddings), exactly.

    p(m | X) ~ N(m; 0, (1 + sigma_m^2) I) prod_j [(1 - rho) + rho exp(l_j(m))] over tumour tiles,
    l_j = nu q0 - nu^2 / 2 + kappa q'm - kappa^2 |m|^2 / 2, with q0 and q the tile's components
    along the niche and the morphology directions.

    Parameters
    ----------
    embeddings, tumour
        The tiles, and which of them are tumour. Tile types are taken as known: they lie 5.7 noise
        SDs apart, so an observer of embeddings alone misses next to nothing.
    world, options
        Where the tiles come from.
    niche
        Given, the niche tiles are known too (an oracle).
    site_leaning
        Given, the site's leaning is known and used (a shortcut); otherwise biology only.
    n_points
        Points along a side of the grid of m; by default as many as the sum needs to be exact to
        about four digits.
    """
    seen = read_tiles(embeddings[tumour], world, options, n_points)
    if niche is None:
        log_tiles = np.logaddexp(np.log1p(-options.rho), np.log(options.rho) + seen.evidence).sum(0)
    else:
        log_tiles = seen.evidence[niche[tumour]].sum(0)
    return averaged_probability(seen, log_tiles, options, site_leaning)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileEvidence:
    """What tumour tiles say of m, on a grid of m.

    Parameters
    ----------
    points
        The grid.
    log_prior
        Of each point, up to a constant.
    evidence
        log p(tile | it is niche, m) - log p(tile | it is not).
    """

    points: Float64[np.ndarray, "n_points 2"]
    log_prior: Float64[np.ndarray, " n_points"]
    evidence: Float64[np.ndarray, "n_tumour n_points"]


def read_tiles(
    embeddings: Float32[np.ndarray, "n_tumour dim"],
    world: World,
    options: SimulationOptions,
    n_points: int | None = None,
) -> TileEvidence:
    """Give what tumour tiles say of m; ``n_points`` as of :func:`slide_probability`."""
    tiles = embeddings.astype(np.float64)
    points, log_prior = _grid(options, n_points or _enough_points(len(tiles), options))
    evidence = (
        (options.nu * (tiles @ world.niche) - options.nu**2 / 2)[:, None]
        + options.kappa * (tiles @ world.morphology.T) @ points.T
        - options.kappa**2 * np.square(points).sum(1) / 2
    )
    return TileEvidence(points=points, log_prior=log_prior, evidence=evidence)


def averaged_probability(
    seen: TileEvidence,
    log_tiles: Float64[np.ndarray, " n_points"],
    options: SimulationOptions,
    site_leaning: float | None = None,
) -> float:
    """Give P(true label positive), averaged over the posterior of m.

    Parameters
    ----------
    seen
        The grid and the prior.
    log_tiles
        log p(all tiles | m) at each point, up to a constant.
    options
        The law of the label.
    site_leaning
        Of the site, where it is known and used.
    """
    log_posterior = seen.log_prior + log_tiles
    weight = np.exp(log_posterior - logsumexp(log_posterior))
    mean = seen.points @ np.asarray(options.a[:2]) / (1 + options.sigma_m**2)
    sources = ["morphology"]
    if site_leaning is not None:
        mean = mean + options.gamma * site_leaning
        sources.append("site")
    explained = explained_variance(options, sources)
    return float(weight @ positive_probability(mean, explained, options))


def _enough_points(n_tumour: int, options: SimulationOptions) -> int:
    # steps no wider than the SD of m's posterior where the niche is as large as it may well be:
    # a sum over a Gaussian errs by 2 exp(-2 pi^2 / step^2) then
    n_niche = n_tumour * options.rho + 3 * np.sqrt(n_tumour * options.rho)
    precision = 1 + (1 + options.sigma_m**2) * n_niche * options.kappa**2
    return max(25, int(2 * _SPAN_SD * np.sqrt(precision)) + 1)


def _grid(options: SimulationOptions, n_points: int) -> tuple[np.ndarray, np.ndarray]:
    variance = 1 + options.sigma_m**2
    axis = _SPAN_SD * np.sqrt(variance) * np.linspace(-1, 1, n_points)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return points, -np.square(points).sum(1) / (2 * variance)
