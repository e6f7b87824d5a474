"""How probable it is that two models differ by nothing that matters.

Bayesian correlated t-test of Corani and Benavoli, Machine Learning 100:285 (2015), with a region of
practical equivalence as in Benavoli et al., JMLR 18:77 (2017).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from momkd.evaluation.estimate import Estimate

ROPE = 0.01
"""Differences of no practical meaning: within this of 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Probabilities that the true difference lies below, within and above the region."""

    below: float
    within: float
    above: float


def posterior_of(estimate: Estimate, *, df: float, rope: float = ROPE) -> Posterior:
    """Give the posterior of a difference under a flat prior.

    It is Student's t around the estimate with its standard error as scale. With the estimate of
    :func:`~momkd.evaluation.corrected_tests.corrected_t` and ``df`` one less than its folds, this
    is the correlated t-test: the correlation n_test / (n_test + n_train) that it supposes
    between folds gives the very variance of Nadeau and Bengio. With infinite ``df`` it is the
    normal posterior that belongs to DeLong's and the bootstrap's standard errors.

    NaN where the estimate has no standard error.
    """
    if np.isnan(estimate.standard_error):
        nan = float("nan")
        return Posterior(below=nan, within=nan, above=nan)
    law = norm() if np.isinf(df) else t(df)
    low, high = (float((at - estimate.value) / estimate.standard_error) for at in (-rope, rope))
    below, above = float(law.cdf(low)), float(law.sf(high))
    return Posterior(below=below, within=max(0.0, 1 - below - above), above=above)
