"""Metrics of a score against a binary truth; what is not defined is NaN, never a stand-in.

Labels are 0 and 1, probabilities are of class 1, a case is called positive at or above its
threshold. Accuracy stands beside the majority rate, without which it says nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Integer
from numpy.typing import NDArray
from scipy.special import expit, logit

# a probability of exactly 0 or 1 has no logit; nearer than this, it counts as this near
_NEAREST = 1e-6

Labels = Integer[np.ndarray, " n"]
Scores = Float[np.ndarray, " n"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """How probabilities would have to be bent to fit the truth.

    Parameters
    ----------
    slope
        Of logit(y) = a + slope * logit(p), fitted freely; 1 is right, below 1 overconfident.
    intercept
        Of logit(y) = intercept + logit(p) (calibration in the large); 0 is right.
    free_intercept
        The a of the fit that gives the slope.
    why_no_slope, why_no_intercept
        Why the figure is NaN; empty where it is defined.
    """

    slope: float
    intercept: float
    free_intercept: float = float("nan")
    why_no_slope: str = ""
    why_no_intercept: str = ""


def auroc(y_true: Labels, score: Scores) -> float:
    """Give the chance that a positive scores above a negative, ties counting one half.

    By ranks (Mann-Whitney U over n_pos * n_neg); NaN with one class.
    """
    n_yes = int((y_true == 1).sum())
    n_no = len(y_true) - n_yes
    if not n_yes or not n_no:
        return float("nan")
    from scipy.stats import rankdata

    ranks = rankdata(score)[y_true == 1].sum()
    return float((ranks - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))


def auprc(y_true: Labels, score: Scores) -> float:
    """Give the average precision: mean over positives of the precision at their score.

    Equal scores form one step, so the order of tied cases does not matter; NaN without positives.
    """
    n_yes = int((y_true == 1).sum())
    if not n_yes:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(y_true[order] == 1)[last_of_tie]
    called = np.flatnonzero(last_of_tie) + 1
    return float((np.diff(hits, prepend=0) * hits / called).sum() / n_yes)


def brier(y_true: Labels, prob_positive: Scores) -> float:
    """Give the mean squared distance of probability and truth."""
    return float(np.mean((prob_positive - y_true) ** 2))


def score_all(y_true: Labels, prob_positive: Scores, threshold: float) -> dict[str, float]:
    """Score calibrated probabilities at one threshold.

    Returns
    -------
    dict
        ``auroc, auprc, accuracy, majority_rate, macro_f1, sensitivity, specificity, brier,
        calibration_slope, calibration_intercept, n, n_positive``; NaN where not defined
        (:func:`why_undefined` says why).
    """
    yes, called = y_true == 1, prob_positive >= threshold
    hit, false = int((yes & called).sum()), int((~yes & called).sum())
    missed, right = int((yes & ~called).sum()), int((~yes & ~called).sum())
    n, n_yes = len(y_true), hit + missed
    bent = recalibrate(y_true, prob_positive)
    return {
        "auroc": auroc(y_true, prob_positive),
        "auprc": auprc(y_true, prob_positive),
        "accuracy": (hit + right) / n,
        "majority_rate": max(n_yes, n - n_yes) / n,
        "macro_f1": (_f1(hit, false, missed) + _f1(right, missed, false)) / 2,
        "sensitivity": _ratio(hit, n_yes),
        "specificity": _ratio(right, n - n_yes),
        "brier": brier(y_true, prob_positive),
        "calibration_slope": bent.slope,
        "calibration_intercept": bent.intercept,
        "n": float(n),
        "n_positive": float(n_yes),
    }


def why_undefined(y_true: Labels, prob_positive: Scores, threshold: float) -> dict[str, str]:
    """Say, for each metric of :func:`score_all` that is NaN, why."""
    bent = recalibrate(y_true, prob_positive)
    own = {
        "calibration_slope": bent.why_no_slope,
        "calibration_intercept": bent.why_no_intercept,
        "macro_f1": "a class is neither present nor called",
        "sensitivity": "no positives",
        "specificity": "no negatives",
        "auprc": "no positives",
        "auroc": "1 class",
    }
    scores = score_all(y_true, prob_positive, threshold)
    return {name: own[name] for name, value in scores.items() if np.isnan(value)}


def calibration_slope(y_true: Labels, prob_positive: Scores) -> float:
    """Give the calibration slope; see :func:`recalibrate`."""
    return recalibrate(y_true, prob_positive).slope


def calibration_intercept(y_true: Labels, prob_positive: Scores) -> float:
    """Give the calibration in the large; see :func:`recalibrate`."""
    return recalibrate(y_true, prob_positive).intercept


def recalibrate(y_true: Labels, prob_positive: Scores) -> Recalibration:
    """Fit the logistic recalibration of logit(p) by maximum likelihood.

    Cox 1958; slope and intercept as in Van Calster et al., BMC Medicine 17:230 (2019). Where a
    maximum does not exist (one class, equal probabilities, classes separated by a cut) the figure
    is NaN and the reason given, instead of a number that only says when the optimiser stopped.
    Probabilities are held 1e-6 away from 0 and 1.
    """
    x = log_odds(prob_positive)
    yes = y_true == 1
    if yes.all() or not yes.any():
        nan = float("nan")
        return Recalibration(
            slope=nan, intercept=nan, why_no_slope="1 class", why_no_intercept="1 class"
        )
    intercept = _root(lambda shift: float(expit(x + shift).sum() - yes.sum()))
    why = _why_no_slope(x[yes], x[~yes])
    if why:
        return Recalibration(slope=float("nan"), intercept=intercept, why_no_slope=why)
    free, slope = _free_fit(x, yes.astype(np.float64))
    return Recalibration(slope=slope, intercept=intercept, free_intercept=free)


def log_odds(prob_positive: Scores) -> Float64[np.ndarray, " n"]:
    """Give logit(p), p held 1e-6 away from 0 and 1."""
    return logit(np.clip(prob_positive.astype(np.float64), _NEAREST, 1 - _NEAREST))


def _why_no_slope(yes: NDArray[np.float64], no: NDArray[np.float64]) -> str:
    if yes.min() == yes.max() == no.min() == no.max():
        return "all probabilities are equal"
    if no.max() <= yes.min() or yes.max() <= no.min():
        return "the classes are separated"
    return ""


def _free_fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.optimize import minimize

    spread = x.std()
    unit = (x - x.mean()) / spread

    def loss(beta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = beta[0] + beta[1] * unit
        residual = expit(z) - y
        gradient = np.array([residual.mean(), (residual * unit).mean()])
        return float(np.mean(np.logaddexp(0, z) - y * z)), gradient

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
    slope = float(found.x[1] / spread)
    return float(found.x[0]) - slope * float(x.mean()), slope


def _root(excess: Callable[[float], float]) -> float:
    from scipy.optimize import brentq

    # |logit| is at most 14 here; no shift beyond it by more than log(n) is ever needed
    return float(brentq(excess, -80, 80, xtol=1e-12))


def _f1(hit: int, false: int, missed: int) -> float:
    return _ratio(2 * hit, 2 * hit + false + missed)


def _ratio(top: int, bottom: int) -> float:
    return top / bottom if bottom else float("nan")
