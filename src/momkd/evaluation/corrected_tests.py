"""Tests of a difference over the folds of a repeated cross-validation.

Training sides overlap, so differences over folds are no independent draws; the usual paired t takes
them for such and calls most null studies significant (docs/results/type-one-error.md).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.stats import t

from momkd.evaluation.estimate import LEVEL, Estimate, symmetric_estimate, undefined

# differences that vary by less than this do so by rounding
_LEAST_SD = 1e-12


def corrected_t(
    differences: Float64[np.ndarray, " folds"], test_over_train: float, *, level: float = LEVEL
) -> Estimate:
    """Test a mean difference over folds by the corrected resampled t.

    Nadeau and Bengio, Machine Learning 52:239 (2003); over the folds of repeated cross-validation,
    Bouckaert and Frank, PAKDD 2004. The variance of the mean of J differences is taken as
    (1/J + n_test/n_train) s^2, with J - 1 degrees of freedom.

    Parameters
    ----------
    differences
        One a fold, of all repeats; NaN where a fold's metric is not defined, and then left out.
    test_over_train
        Cases tested over cases trained on, in a fold.
    """
    known = differences[~np.isnan(differences)]
    if len(known) < 2:
        value = float(known.mean()) if len(known) else float("nan")
        return undefined(value, f"{len(known)} folds in which the metric is defined")
    spread = float(known.std(ddof=1))
    if spread < _LEAST_SD:
        return undefined(float(known.mean()), "the difference is the same in every fold")
    error = spread * float(np.sqrt(1 / len(known) + test_over_train))
    return symmetric_estimate(float(known.mean()), error, df=len(known) - 1.0, level=level)


def naive_t(differences: Float64[np.ndarray, " folds"]) -> float:
    """Give p of the usual paired t over folds, which must not be believed: a warning, no result."""
    return corrected_t(differences, 0.0).p


def detectable_in_sd(n_folds: int, test_over_train: float, *, level: float = LEVEL) -> float:
    """Give the least significant mean difference, in SD of the difference between folds."""
    quantile = float(t(n_folds - 1).ppf((1 + level) / 2))
    return quantile * float(np.sqrt(1 / n_folds + test_over_train))


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p of several comparisons so that a false one among them has the nominal chance.

    Holm, Scandinavian Journal of Statistics 6:65 (1979). A comparison whose p is not defined
    stays NaN and still counts as one that was made.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable")
    factors = np.arange(len(values), 0, -1)
    stepped = np.maximum.accumulate(np.where(np.isnan(values), 1.0, values)[order] * factors)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return np.where(np.isnan(values), np.nan, adjusted).tolist()
