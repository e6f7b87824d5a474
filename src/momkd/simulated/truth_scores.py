"""Scores against what is hidden: attention against the niche, representations against m.

Neither says how well a model predicts; they say whether it looks where the label shows, and whether
what shows there can be read from what it keeps of a slide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from momkd.evaluation.metrics import auprc, auroc

_RIDGE = 0.1  # of the mean variance of a dimension, added to each
_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class NicheScore:
    """How well attention finds the niche of one slide; NaN where all or none of it is niche.

    Parameters
    ----------
    auprc
        Average precision of attention for niche tiles.
    share
        Of the tiles that are niche: the AUPRC of attention that is equal everywhere.
    by_chance
        Expected AUPRC of a random order of the tiles; above ``share``, most where tiles are few.
    auroc
        Chance that a niche tile has more attention than another one.
    """

    auprc: float
    share: float
    by_chance: float
    auroc: float


def score_niche(
    attention: Float[np.ndarray, " n_tiles"], niche: Bool[np.ndarray, " n_tiles"]
) -> NicheScore:
    """Score the attention over one slide against its niche."""
    n, n_niche = len(niche), int(niche.sum())
    if n_niche in (0, n):
        nan = float("nan")
        return NicheScore(auprc=nan, share=n_niche / n, by_chance=nan, auroc=nan)
    truth = niche.astype(np.int64)
    return NicheScore(
        auprc=auprc(truth, attention),
        share=n_niche / n,
        by_chance=auprc_by_chance(n, n_niche),
        auroc=auroc(truth, attention),
    )


def auprc_by_chance(n: int, n_positive: int) -> float:
    """Give the expected average precision of a random order without ties.

    A positive at rank i has, besides itself, (i - 1)(n_positive - 1)/(n - 1) positives before it
    on average; ranks are equally likely, so the mean is that of (1 + that) / i over i = 1..n.

    Parameters
    ----------
    n, n_positive
        Items, 2 or more, and how many of them are positive, 1 or more.
    """
    rank = np.arange(1, n + 1)
    return float(np.mean((1 + (rank - 1) * (n_positive - 1) / (n - 1)) / rank))


def canonical_correlations(
    x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "n dim_y"]
) -> Float64[np.ndarray, " n_components"]:
    """Give the canonical correlations of two tables over the very rows they are fitted on.

    Hotelling, Biometrika 28:321 (1936). With many columns they are high by chance alone: see
    :func:`score_representation`.
    """
    x, y = _centred(x), _centred(y)
    return _directions(x, _whitening(x, 0.0), y).correlations


@dataclass(frozen=True, slots=True, kw_only=True)
class RepresentationScore:
    """How much of m a linear map can read out of a representation, over slides it has not seen.

    Parameters
    ----------
    correlations
        Cross-validated canonical correlations, the first component first; near 0 or below where
        nothing can be read.
    by_chance
        Their mean where the rows of m are shuffled.
    high_by_chance
        Their 95 % quantile there.
    """

    correlations: tuple[float, ...]
    by_chance: tuple[float, ...]
    high_by_chance: tuple[float, ...]


def score_representation(
    representation: Float[np.ndarray, "n dim"],
    morphology: Float[np.ndarray, "n dim_y"],
    *,
    n_folds: int = 5,
    n_permutations: int = 50,
    ridge: float = _RIDGE,
    seed: int = 0,
) -> RepresentationScore:
    """Score what is kept of slides against the m of their cases.

    Directions are fitted on all folds but one (ridge-regularised canonical correlation analysis)
    and correlated on that one; the mean over folds is given.

    Parameters
    ----------
    representation
        A row a slide; slides of one case must not stand in two rows.
    morphology
        m of the same slides.
    n_folds, n_permutations, seed
        Of the cross-validation, and of the level of chance.
    ridge
        Added to each variance of ``representation``, in units of their mean.
    """
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(len(morphology)) % n_folds)
    sides = [_split(representation, fold == number, ridge) for number in range(n_folds)]
    found = _held_out(sides, morphology)
    shuffled = np.array(
        [_held_out(sides, rng.permutation(morphology)) for _ in range(n_permutations)]
    )
    return RepresentationScore(
        correlations=_plain(found),
        by_chance=_plain(shuffled.mean(axis=0)),
        high_by_chance=_plain(np.quantile(shuffled, 0.95, axis=0)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Directions:
    of_x: Float64[np.ndarray, "dim n_components"]
    of_y: Float64[np.ndarray, "dim_y n_components"]
    correlations: Float64[np.ndarray, " n_components"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Split:
    """The representation's part in one fold, which shuffling m does not change."""

    kept: Bool[np.ndarray, " n"]
    fitted_on: Float64[np.ndarray, "n_rest dim"]
    root: Float64[np.ndarray, "dim n_kept_directions"]
    held_out: Float64[np.ndarray, "n_kept dim"]


def _split(x: np.ndarray, kept: np.ndarray, ridge: float) -> _Split:
    centred = x.astype(np.float64) - x[~kept].mean(axis=0, dtype=np.float64)
    root = _whitening(centred[~kept], ridge)
    return _Split(kept=kept, fitted_on=centred[~kept], root=root, held_out=centred[kept])


def _held_out(sides: Sequence[_Split], y: np.ndarray) -> Float64[np.ndarray, " n_components"]:
    found = []
    for side in sides:
        centred = y.astype(np.float64) - y[~side.kept].mean(axis=0, dtype=np.float64)
        fitted = _directions(side.fitted_on, side.root, centred[~side.kept])
        left, right = side.held_out @ fitted.of_x, centred[side.kept] @ fitted.of_y
        found.append([_correlation(a, b) for a, b in zip(left.T, right.T, strict=True)])
    return np.mean(found, axis=0)


def _directions(x: np.ndarray, root_x: np.ndarray, y: np.ndarray) -> _Directions:
    root_y = _whitening(y, 0.0)
    u, s, v = np.linalg.svd(root_x.T @ (x.T @ y / len(x)) @ root_y, full_matrices=False)
    return _Directions(of_x=root_x @ u, of_y=root_y @ v.T, correlations=s)


def _whitening(x: np.ndarray, ridge: float) -> np.ndarray:
    """Give W with W' (S + ridge mean(S) I) W = I on the directions that vary at all."""
    value, vector = np.linalg.eigh(x.T @ x / len(x))
    value = value + ridge * value.mean()
    kept = value > _SMALLEST * float(value.max())
    if not kept.any():
        return np.zeros_like(vector)
    return vector[:, kept] / np.sqrt(value[kept])


def _centred(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)).astype(np.float64)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Give Pearson's correlation; 0 where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / size if size > _SMALLEST else 0.0


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
