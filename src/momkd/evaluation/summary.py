"""Metrics of repeated cross-validation with case-level bootstrap intervals.

A case that is drawn k times counts k times in every fold of every seed it stands in, so repeats
of the cross-validation are not mistaken for more patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

METRICS = (
    "auroc",
    "auprc",
    "accuracy",
    "majority_rate",
    "macro_f1",
    "sensitivity",
    "specificity",
    "sensitivity_at_specificity_90",
    "specificity_at_sensitivity_95",
    "brier",
)

# of the cuts of a ROC curve, those that keep this much of the one tell the best of the other
_SPECIFICITY_KEPT = 0.90
_SENSITIVITY_KEPT = 0.95
# 36 of 40 is 0.9, whatever the floats say
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldScores:
    """The scored side of one fold: one row a case."""

    seed: int
    fold: int
    case_ids: tuple[str, ...]
    labels: Int64[np.ndarray, " n"]
    probabilities: Float64[np.ndarray, " n"]
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure and its percentile interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def summarise_folds(
    folds: Sequence[FoldScores], *, n_draws: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Average each metric over folds, with a case-level bootstrap interval.

    Parameters
    ----------
    folds
        Folds of one model, of one or several seeds.
    n_draws
        Bootstrap draws of cases, stratified by label.
    level
        Coverage of the percentile interval.

    Returns
    -------
    dict
        An interval for each of :data:`METRICS`. A draw that leaves a fold with one class counts
        for the metrics that are still defined.
    """
    drawn = draw_folds(folds, n_draws=n_draws, seed=seed)
    return {name: percentile_interval(mean_over_folds(v), level) for name, v in drawn.items()}


def draw_folds(
    folds: Sequence[FoldScores], *, n_draws: int = 2000, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Score each fold as observed and in bootstrap draws of cases.

    Two models scored on the same cases see the same draws, whatever their folds, so their means
    may be subtracted draw by draw.

    Returns
    -------
    dict
        Metric -> (n_folds, 1 + n_draws), the first column as observed.
    """
    order, labels = _cases(folds)
    weights = draw_case_weights(labels, n_draws, seed)
    place = {case: i for i, case in enumerate(order)}
    values = {name: np.zeros((len(folds), n_draws + 1)) for name in METRICS}
    for row, fold in enumerate(folds):
        columns = [place[c] for c in fold.case_ids]
        ones = np.ones((1, len(columns)))
        drawn = np.concatenate([ones, weights[:, columns]])
        scores = weighted_metrics(fold.labels, fold.probabilities, fold.threshold, drawn)
        for name in METRICS:
            values[name][row] = scores[name]
    return values


def mean_over_folds(
    values: Float64[np.ndarray, "folds draws"],
) -> Float64[np.ndarray, " draws"]:
    """Average over the folds in which a metric is defined; NaN where it is in none."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0).astype(float))


def percentile_interval(values: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Give the first of ``values`` with the percentile interval of the others."""
    drawn = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(drawn):
        return Interval(value=float(values[0]), low=np.nan, high=np.nan)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(values[0]), low=float(low), high=float(high))


def fold_metrics(fold: FoldScores) -> dict[str, float]:
    """Give the metrics of one fold, NaN where not defined."""
    ones = np.ones((1, len(fold.labels)))
    found = weighted_metrics(fold.labels, fold.probabilities, fold.threshold, ones)
    return {name: float(found[name][0]) for name in METRICS}


def draw_case_weights(
    labels: Int64[np.ndarray, " n"], n_draws: int, seed: int
) -> Float64[np.ndarray, "draws n"]:
    """Draw how often each case counts, stratified by label (rows sum to the number of cases)."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((n_draws, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = rng.multinomial(len(members), even, size=n_draws)
    return weights


def weighted_metrics(
    labels: Int64[np.ndarray, " n"],
    probabilities: Float64[np.ndarray, " n"],
    threshold: float,
    weights: Float64[np.ndarray, "draws n"],
) -> dict[str, NDArray[np.float64]]:
    """Score weighted cases, all draws at once; a metric without its classes is NaN.

    AUROC counts ties one half; AUPRC is average precision. With weights of one these are the
    plain metrics. The two metrics at a fixed value of the other rate are read off the ROC curve
    of these very cases: the best cut that keeps a specificity of 0.90 (a sensitivity of 0.95), no
    point between two cuts, and no threshold that was chosen beforehand.
    """
    yes, no = weights * (labels == 1), weights * (labels == 0)
    n_yes, n_no = yes.sum(axis=1), no.sum(axis=1)
    total = n_yes + n_no
    called = (probabilities >= threshold).astype(np.float64)
    hit, false = yes @ called, no @ called
    missed, right = n_yes - hit, n_no - false
    curve = _curve_metrics(probabilities, yes, no)
    error = (probabilities - labels) ** 2
    return {
        "accuracy": _ratio(hit + right, total),
        "majority_rate": _ratio(np.maximum(n_yes, n_no), total),
        "macro_f1": (_f1(hit, false, missed) + _f1(right, missed, false)) / 2,
        "sensitivity": _ratio(hit, n_yes),
        "specificity": _ratio(right, n_no),
        "brier": _ratio(weights @ error, total),
        **curve,
    }


def _curve_metrics(
    scores: NDArray[np.float64], yes: NDArray[np.float64], no: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    yes_tied = np.add.reduceat(yes[:, order], starts, axis=1)
    no_tied = np.add.reduceat(no[:, order], starts, axis=1)
    yes_above, no_above = np.cumsum(yes_tied, axis=1), np.cumsum(no_tied, axis=1)
    n_yes, n_no = yes_above[:, -1], no_above[:, -1]
    beaten = n_no[:, None] - no_above + no_tied / 2
    area = _ratio((yes_tied * beaten).sum(axis=1), n_yes * n_no)
    precision = yes_tied * _ratio(yes_above, yes_above + no_above, empty=0.0)
    # at cut k the tied scores 0..k are called positive; above the first cut nobody is
    found, alarmed = _ratio(yes_above, n_yes[:, None]), _ratio(no_above, n_no[:, None])
    both = (n_yes > 0) & (n_no > 0)
    specific = alarmed <= 1 - _SPECIFICITY_KEPT + _ROUNDING
    sensitive = found >= _SENSITIVITY_KEPT - _ROUNDING
    return {
        "auroc": area,
        "auprc": _ratio(precision.sum(axis=1), n_yes),
        "sensitivity_at_specificity_90": np.where(
            both, np.max(np.where(specific, found, 0.0), axis=1), np.nan
        ),
        "specificity_at_sensitivity_95": np.where(
            both, 1 - np.min(np.where(sensitive, alarmed, 1.0), axis=1), np.nan
        ),
    }


def _f1(
    hit: NDArray[np.float64], false: NDArray[np.float64], missed: NDArray[np.float64]
) -> NDArray[np.float64]:
    # a class that is neither present nor called has F1 0, as scikit-learn counts it
    return _ratio(2 * hit, 2 * hit + false + missed, empty=0.0)


def _ratio(
    top: NDArray[np.float64], bottom: NDArray[np.float64], empty: float = np.nan
) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.full(np.shape(top), empty), where=bottom > 0)


def _cases(folds: Sequence[FoldScores]) -> tuple[list[str], NDArray[np.int64]]:
    label_of = {
        case: int(label)
        for fold in folds
        for case, label in zip(fold.case_ids, fold.labels, strict=True)
    }
    order = sorted(label_of)
    return order, np.array([label_of[c] for c in order], dtype=np.int64)
