"""Metrics of one scored set; what is not defined is NaN, never one half."""

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import rankdata

_EDGE = 1e-7
_SEPARATED = 50.0


def auroc(y_true: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve by ranks; ties count one half; NaN with one class."""
    labels = np.asarray(y_true).astype(bool)
    n_yes, n_no = int(labels.sum()), int((~labels).sum())
    if not n_yes or not n_no:
        return float("nan")
    ranks = rankdata(np.asarray(score, dtype=np.float64))
    return float((ranks[labels].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))


def calibration_slope(y_true: ArrayLike, probability: ArrayLike) -> float:
    """Slope of a logistic regression of the label on logit(p); 1 is ideal, below 1 overconfident.

    NaN with one class, constant probabilities, or labels that the probabilities separate.
    """
    labels, x = _labels_and_logits(y_true, probability)
    if len(np.unique(labels)) < 2 or np.ptp(x) < 1e-9:
        return float("nan")
    fitted = _fit_logistic(labels, np.stack([np.ones_like(x), x], axis=1))
    return float(fitted[1]) if abs(fitted[1]) < _SEPARATED else float("nan")


def calibration_intercept(y_true: ArrayLike, probability: ArrayLike) -> float:
    """Calibration in the large: the shift of logit(p) that makes means agree; 0 is ideal.

    NaN with one class.
    """
    labels, x = _labels_and_logits(y_true, probability)
    if len(np.unique(labels)) < 2:
        return float("nan")
    return float(_fit_logistic(labels, np.ones((len(x), 1)), offset=x)[0])


def _labels_and_logits(
    y_true: ArrayLike, probability: ArrayLike
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    p = np.clip(np.asarray(probability, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(y_true).astype(np.int64), logit(p)


def _fit_logistic(
    labels: NDArray[np.int64],
    design: NDArray[np.float64],
    offset: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = design @ weights + offset
        value = float(np.mean(np.logaddexp(0, z) - labels * z))
        return value, design.T @ (expit(z) - labels) / len(labels)

    start = np.zeros(design.shape[1])
    return minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
