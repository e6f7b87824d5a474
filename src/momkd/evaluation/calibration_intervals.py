"""Calibration slope and intercept of cross-validated probabilities, with case-level intervals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from momkd.evaluation.estimate import LEVEL
from momkd.evaluation.metrics import log_odds, recalibrate
from momkd.evaluation.summary import FoldScores, Interval


def calibration_with_intervals(
    repeats: Sequence[FoldScores], *, level: float = LEVEL
) -> dict[str, Interval]:
    """Give slope and intercept, averaged over repeats, with Wald intervals.

    Parameters
    ----------
    repeats
        The scores of all cases, one entry a repeat of the cross-validation.

    Returns
    -------
    dict
        ``calibration_slope``, ``calibration_intercept`` (see
        :func:`~momkd.evaluation.metrics.recalibrate`). NaN where one repeat has none.

    Notes
    -----
    The standard error is the sandwich (Huber 1967): a case's influence is H^-1 times its score,
    averaged over repeats and squared, so that a case scored ten times counts once. It holds for
    the models as trained.
    """
    slopes: list[float] = []
    intercepts: list[float] = []
    by_case: dict[str, NDArray[np.float64]] = {}
    for side in repeats:
        found = recalibrate(side.labels, side.probabilities)
        slopes.append(found.slope)
        intercepts.append(found.intercept)
        x, y = log_odds(side.probabilities), side.labels.astype(np.float64)
        moved = np.stack(
            [
                _slope_influence(x, y, found.free_intercept, found.slope),
                _intercept_influence(x, y, found.intercept),
            ],
            axis=1,
        )
        for case, by in zip(side.case_ids, moved / len(repeats), strict=True):
            by_case[case] = by_case.get(case, np.zeros(2)) + by
    errors = np.sqrt((np.stack(list(by_case.values())) ** 2).sum(axis=0))
    return {
        "calibration_slope": _wald(float(np.mean(slopes)), float(errors[0]), level),
        "calibration_intercept": _wald(float(np.mean(intercepts)), float(errors[1]), level),
    }


def _slope_influence(
    x: NDArray[np.float64], y: NDArray[np.float64], intercept: float, slope: float
) -> NDArray[np.float64]:
    if np.isnan(slope):
        return np.full(len(x), np.nan)
    p = expit(intercept + slope * x)
    weight = p * (1 - p)
    centred = x - (weight * x).sum() / weight.sum()
    return centred * (y - p) / (weight * centred**2).sum()


def _intercept_influence(
    x: NDArray[np.float64], y: NDArray[np.float64], intercept: float
) -> NDArray[np.float64]:
    if np.isnan(intercept):
        return np.full(len(x), np.nan)
    p = expit(x + intercept)
    return (y - p) / (p * (1 - p)).sum()


def _wald(value: float, error: float, level: float) -> Interval:
    reach = float(norm.ppf((1 + level) / 2)) * error
    return Interval(value=value, low=value - reach, high=value + reach)
