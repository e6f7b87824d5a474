"""Case-level bootstrap intervals of any metric of out-of-fold predictions.

Cases are drawn with replacement within their fold and class: folds differ in their model, and a
class with few cases must not vanish from a draw. The intervals say how the figure would move with
other patients under the same models, not how it would move with other trainings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import NDArray

from momkd.evaluation.metrics import auroc, auroc_weighted

Estimand = Literal["mean_over_folds", "pooled"]
Metric = Callable[[NDArray[np.int64], NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its percentile interval.

    ``n_draws`` counts the draws in which the metric was defined; ``value``, ``low`` and ``high``
    are NaN where there is none.
    """

    value: float
    low: float
    high: float
    n_draws: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """Sensitivity by false-positive rate, with a pointwise percentile interval."""

    false_positive_rate: Float[np.ndarray, " n_points"]
    low: Float[np.ndarray, " n_points"]
    high: Float[np.ndarray, " n_points"]


def bootstrap_interval(
    metric: Metric,
    y_true: Integer[np.ndarray, " n_cases"],
    prob_positive: Float[np.ndarray, " n_cases"],
    groups: Integer[np.ndarray, " n_cases"] | None = None,
    n_draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    estimand: Estimand = "mean_over_folds",
) -> Interval:
    """Bootstrap a metric of out-of-fold predictions, one row a case.

    Repeats of a cross-validation show a case several times; those go through
    :func:`momkd.evaluation.summary.summarise_folds`, which keeps a case's rows together.

    Parameters
    ----------
    metric
        Takes (labels, probabilities of the positive class); NaN where undefined.
        :func:`~momkd.evaluation.metrics.auroc` is computed for all draws at once.
    y_true
        0 or 1.
    prob_positive
        Probability, or any score for a metric of ranks.
    groups
        Fold of each case; None puts all in one.
    n_draws
        Bootstrap draws.
    level
        Coverage.
    seed
        Equal seeds give equal intervals, whatever the order of the rows of another fold.
    estimand
        ``mean_over_folds``: the metric in each fold, averaged over the folds where it is defined
        (what one trained model achieves). ``pooled``: the metric of all predictions together
        (which also asks that the folds' scores mean the same).
    """
    folds = np.zeros(len(y_true), dtype=np.int64) if groups is None else groups
    weights = draw_weights(y_true, folds, n_draws, seed)
    if estimand == "pooled":
        values = _evaluate(metric, y_true, prob_positive, weights)
        return _interval(values, level)
    sides = [folds == fold for fold in np.unique(folds)]
    per_fold = [_evaluate(metric, y_true[s], prob_positive[s], weights[:, s]) for s in sides]
    return _interval(_mean_of_defined(np.stack(per_fold)), level)


def roc_band(
    y_true: Integer[np.ndarray, " n_cases"],
    prob_positive: Float[np.ndarray, " n_cases"],
    groups: Integer[np.ndarray, " n_cases"] | None = None,
    n_draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Band:
    """Give the pointwise interval of the ROC curve averaged over folds, for drawing.

    A fold with one class has no curve; at least one fold must have both.
    """
    folds = np.zeros(len(y_true), dtype=np.int64) if groups is None else groups
    weights = draw_weights(y_true, folds, n_draws, seed)[1:]
    sides = [folds == fold for fold in np.unique(folds)]
    grid = np.linspace(0, 1, 101)
    curves = [
        _curves(y_true[s], prob_positive[s], weights[:, s], grid)
        for s in sides
        if len(np.unique(y_true[s])) == 2
    ]
    mean = np.mean(np.stack(curves), axis=0)
    low, high = np.quantile(mean, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Band(false_positive_rate=grid, low=low, high=high)


def draw_weights(
    y_true: Integer[np.ndarray, " n_cases"],
    groups: Integer[np.ndarray, " n_cases"],
    n_draws: int,
    seed: int,
) -> Float[np.ndarray, "n_draws_and_1 n_cases"]:
    """Draw how often each case counts; the first row is the sample itself, all ones.

    Within each group and class the counts of a row sum to the number of its cases.
    """
    rng = np.random.default_rng(seed)
    weights = np.ones((n_draws + 1, len(y_true)))
    for group in np.unique(groups):
        for label in np.unique(y_true):
            members = np.flatnonzero((groups == group) & (y_true == label))
            if len(members):
                even = np.full(len(members), 1 / len(members))
                weights[1:, members] = rng.multinomial(len(members), even, size=n_draws)
    return weights


def _evaluate(
    metric: Metric,
    y_true: Integer[np.ndarray, " n"],
    prob_positive: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
) -> NDArray[np.float64]:
    if metric is auroc:
        return auroc_weighted(y_true, prob_positive, weights)
    counts = weights.astype(np.int64)
    return np.array(
        [metric(np.repeat(y_true, row), np.repeat(prob_positive, row)) for row in counts]
    )


def _curves(
    y_true: Integer[np.ndarray, " n"],
    prob_positive: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
    grid: Float[np.ndarray, " points"],
) -> Float[np.ndarray, "draws points"]:
    order = np.argsort(-prob_positive, kind="stable")
    last_of_tie = np.append(np.diff(prob_positive[order]) != 0, True)
    drawn = weights[:, order]
    yes = np.cumsum(drawn * (y_true[order] == 1), axis=1)[:, last_of_tie]
    no = np.cumsum(drawn * (y_true[order] == 0), axis=1)[:, last_of_tie]
    steps = zip(no / no[:, -1:], yes / yes[:, -1:], strict=True)
    return np.stack([np.interp(grid, np.append(0, x), np.append(0, y)) for x, y in steps])


def _mean_of_defined(values: Float[np.ndarray, "folds draws"]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    n_known = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, n_known, out=np.full(len(total), np.nan), where=n_known > 0)


def _interval(values: NDArray[np.float64], level: float) -> Interval:
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value) or not len(drawn):
        return Interval(value=value, low=np.nan, high=np.nan, n_draws=len(drawn))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), n_draws=len(drawn))
