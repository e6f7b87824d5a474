"""Points of ROC, precision-recall and calibration curves, as a page draws them.

Curves are averaged over folds the way their areas are: what is drawn and what is stated agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.stats import norm

from momkd.evaluation.estimate import LEVEL
from momkd.evaluation.summary import FoldScores

GRID = np.linspace(0, 1, 101)
"""Where curves are averaged: each hundredth of specificity or of sensitivity."""

N_BINS = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationBins:
    """Predicted and observed shares of cases by rising probability, bins of equal counts.

    ``low`` and ``high`` are Wilson's interval of ``share`` for ``n_cases`` different cases.
    """

    probability: Float64[np.ndarray, " bins"]
    share: Float64[np.ndarray, " bins"]
    low: Float64[np.ndarray, " bins"]
    high: Float64[np.ndarray, " bins"]
    n_cases: Int64[np.ndarray, " bins"]


def mean_roc(folds: Sequence[FoldScores]) -> Float64[np.ndarray, " grid"] | None:
    """Give the sensitivity at each 1 - specificity of :data:`GRID`, averaged over folds.

    None where no fold has both classes.
    """
    curves = [_roc(f) for f in folds if len(np.unique(f.labels)) == 2]
    return np.mean(curves, axis=0) if curves else None


def mean_precision(folds: Sequence[FoldScores]) -> Float64[np.ndarray, " grid"] | None:
    """Give the precision at each sensitivity of :data:`GRID`, averaged over folds.

    A fold's curve is a step: the precision of the highest cut that reaches the sensitivity, without
    interpolation (Davis and Goadrich, ICML 2006). Its area is the average precision. None where no
    fold has positives.
    """
    curves = [_precision(f) for f in folds if f.labels.any()]
    return np.mean(curves, axis=0) if curves else None


def calibration_bins(
    repeats: Sequence[FoldScores], *, n_bins: int = N_BINS, level: float = LEVEL
) -> CalibrationBins:
    """Give the share of positives against the mean probability.

    Parameters
    ----------
    repeats
        Scores of the same cases, one entry a repeat; all are binned together.

    Notes
    -----
    A case that stands several times in a bin counts once for the width of the interval: repeats of
    a cross-validation are no further patients.
    """
    labels = np.concatenate([r.labels for r in repeats])
    probabilities = np.concatenate([r.probabilities for r in repeats])
    cases = np.array([case for r in repeats for case in r.case_ids])
    order = np.argsort(probabilities, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order)))
    share = np.array([labels[b].mean() for b in bins])
    n_cases = np.array([len(np.unique(cases[b])) for b in bins], dtype=np.int64)
    low, high = wilson(share, n_cases, level)
    return CalibrationBins(
        probability=np.array([probabilities[b].mean() for b in bins]),
        share=share,
        low=low,
        high=high,
        n_cases=n_cases,
    )


def wilson(
    share: NDArray[np.float64], n: NDArray[np.int64], level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give Wilson's interval of a share of ``n`` (J. Am. Stat. Assoc. 22:209, 1927)."""
    z = float(norm.ppf((1 + level) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _cuts(fold: FoldScores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count positives and negatives at or above each distinct score, the highest first."""
    order = np.argsort(-fold.probabilities, kind="stable")
    last_of_tie = np.flatnonzero(np.diff(fold.probabilities[order], append=-np.inf))
    yes = np.cumsum(fold.labels[order])[last_of_tie]
    return yes, last_of_tie + 1 - yes


def _roc(fold: FoldScores) -> NDArray[np.float64]:
    yes, no = _cuts(fold)
    x = np.concatenate([[0.0], no / no[-1]])
    y = np.concatenate([[0.0], yes / yes[-1]])
    return np.interp(GRID, x, y)


def _precision(fold: FoldScores) -> NDArray[np.float64]:
    yes, no = _cuts(fold)
    # 3 of 10 is 0.3, whatever the floats say
    reached = np.searchsorted(yes / yes[-1], GRID - 1e-9, side="left")
    return (yes / (yes + no))[reached]
