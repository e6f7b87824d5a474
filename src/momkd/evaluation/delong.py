"""DeLong's variance of an AUROC and of the difference of two on the same cases.

DeLong, DeLong and Clarke-Pearson, Biometrics 44:837 (1988), in the midrank form of Sun and Xu, IEEE
Signal Processing Letters 21:1389 (2014): n log n instead of n_pos * n_neg. The models are taken as
they are: how they would differ if trained again is not in it.

Cross-validated scores are handled case by case. Each fold gives a case an influence on its own
AUROC; a case's influences on the mean over folds are added, and their squares summed over cases.
With one fold this is DeLong's variance exactly; with disjoint folds, the variance of a mean of
independent AUROCs; with repeats, a case that was scored ten times still counts as one case; and
two models need not share their folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Integer

from momkd.evaluation.estimate import LEVEL, Estimate, symmetric_estimate, undefined
from momkd.evaluation.summary import FoldScores


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """A mean AUROC over folds, and the influence of each case on it."""

    auroc: float
    by_case: Mapping[str, float]


_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_TOO_FEW = "fewer than 2 cases of a class"
_NO_SPREAD = "no case moves it: the classes are separated, or the two score alike"
# a sum of squares below this is rounding
_LEAST = 1e-24


def auroc_components(
    labels: Integer[np.ndarray, " n"], score: Float[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Give the share of the other class that each case stands on the right side of, ties one half.

    Their mean over the positives is the AUROC, and so is their mean over the negatives.
    """
    yes = labels == 1
    wins = _midranks(score)
    wins[yes] = (wins[yes] - _midranks(score[yes])) / (~yes).sum()
    wins[~yes] = 1 - (wins[~yes] - _midranks(score[~yes])) / yes.sum()
    return wins


def auroc_influence(
    labels: Integer[np.ndarray, " n"], score: Float[np.ndarray, " n"]
) -> tuple[float, Float64[np.ndarray, " n"]]:
    """Give the AUROC and each case's influence on it; the squares sum to DeLong's variance.

    NaN where a class has fewer than two cases.
    """
    yes = labels == 1
    n_yes, n_no = int(yes.sum()), int((~yes).sum())
    if not n_yes or not n_no:
        return float("nan"), np.full(len(labels), np.nan)
    wins = auroc_components(labels, score)
    area = float(wins[yes].mean())
    if min(n_yes, n_no) < 2:
        return area, np.full(len(labels), np.nan)
    scale = np.where(yes, np.sqrt(n_yes * (n_yes - 1)), np.sqrt(n_no * (n_no - 1)))
    # a positive that wins more raises the area, and so does a negative that loses more
    return area, (wins - area) / scale


def delong(
    labels: Integer[np.ndarray, " n"], score: Float[np.ndarray, " n"], *, level: float = LEVEL
) -> Estimate:
    """Give one AUROC with DeLong's interval, cut at 0 and 1; it has no p."""
    return _one(*auroc_influence(labels, score), level)


def delong_paired(
    labels: Integer[np.ndarray, " n"],
    score: Float[np.ndarray, " n"],
    other: Float[np.ndarray, " n"],
    *,
    level: float = LEVEL,
) -> Estimate:
    """Test the AUROC of one score against that of another on the same cases."""
    (area, infl), (area_other, infl_other) = (auroc_influence(labels, s) for s in (score, other))
    return _difference(area - area_other, infl - infl_other, level)


def influence_over_folds(folds: Sequence[FoldScores]) -> Influence:
    """Give the mean AUROC over folds, and what each case adds to it over all folds it is in."""
    areas: list[float] = []
    by_case: dict[str, float] = {}
    for fold in folds:
        area, moved = auroc_influence(fold.labels, fold.probabilities)
        areas.append(area)
        for case, by in zip(fold.case_ids, moved.tolist(), strict=True):
            by_case[case] = by_case.get(case, 0.0) + by / len(folds)
    return Influence(auroc=float(np.mean(areas)), by_case=by_case)


def delong_folds(folds: Sequence[FoldScores], *, level: float = LEVEL) -> Estimate:
    """Give the mean AUROC over folds with its interval."""
    found = influence_over_folds(folds)
    return _one(found.auroc, np.array(list(found.by_case.values())), level)


def delong_difference(one: Influence, two: Influence, *, level: float = LEVEL) -> Estimate:
    """Test the mean AUROC over folds of two models, on the same cases if not in the same folds."""
    cases = sorted(one.by_case.keys() | two.by_case.keys())
    apart = np.array([one.by_case.get(c, 0.0) - two.by_case.get(c, 0.0) for c in cases])
    return _difference(one.auroc - two.auroc, apart, level)


def _midranks(score: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    ordered = np.sort(score)
    below, up_to = (np.searchsorted(ordered, score, side) for side in _SIDES)
    return (below + up_to + 1) / 2


def _one(area: float, influence: Float64[np.ndarray, " n"], level: float) -> Estimate:
    why = _why_undefined(influence)
    if why:
        return undefined(area, why)
    found = symmetric_estimate(area, float(np.sqrt(np.sum(influence**2))), level=level)
    return Estimate(
        value=area,
        standard_error=found.standard_error,
        low=max(0.0, found.low),
        high=min(1.0, found.high),
    )


def _difference(value: float, influence: Float64[np.ndarray, " n"], level: float) -> Estimate:
    why = _why_undefined(influence)
    if why:
        return undefined(value, why)
    return symmetric_estimate(value, float(np.sqrt(np.sum(influence**2))), level=level)


def _why_undefined(influence: Float64[np.ndarray, " n"]) -> str:
    if np.isnan(influence).any():
        return _TOO_FEW
    return "" if np.sum(influence**2) > _LEAST else _NO_SPREAD
