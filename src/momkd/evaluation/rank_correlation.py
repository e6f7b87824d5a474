"""Which of many quantities go together: rank correlations with intervals that hold all at once.

Spearman's rho, because shares of tiles are skewed. Its interval is Fisher's z with the variance of
Bonett and Wright, Psychometrika 65:23 (2000): (1 + rho^2 / 2) / (n - 3 - k), k covariates held
fixed. Of m intervals each has the level 1 - 0.05 / m (Bonferroni), so that with 95 % probability
all of them hold their true value; those that leave out 0 are then right together.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.stats import norm, rankdata

LEVEL = 0.95
FEWEST_CASES = 10
_LEAST_SPREAD = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correlations:
    """Rank correlations of rows of one table with rows of another; NaN where one does not vary.

    Parameters
    ----------
    rho, low, high
        The correlation and the bounds of its simultaneous interval.
    n_cases
        Cases behind each.
    n_tests
        m: how many intervals hold together.
    """

    rho: Float64[np.ndarray, "n_left n_right"]
    low: Float64[np.ndarray, "n_left n_right"]
    high: Float64[np.ndarray, "n_left n_right"]
    n_cases: int
    n_tests: int


def correlate_ranks(
    left: Float[np.ndarray, "n_cases n_left"],
    right: Float[np.ndarray, "n_cases n_right"],
    groups: Int64[np.ndarray, " n_cases"] | None = None,
    *,
    level: float = LEVEL,
) -> Correlations:
    """Correlate every column of one table with every column of another.

    Parameters
    ----------
    left, right
        The same cases in the same order.
    groups
        Class of each case: what goes with the class alone is taken away by comparing ranks within
        classes (partial correlation). None compares all cases.

    Raises
    ------
    ValueError
        Fewer than 10 cases.
    """
    n = len(left)
    if n < FEWEST_CASES:
        raise ValueError(f"{n} cases, wanted {FEWEST_CASES} or more")
    n_fixed = 0 if groups is None else len(np.unique(groups)) - 1
    a, b = _standard_ranks(left, groups), _standard_ranks(right, groups)
    rho = np.clip(a.T @ b, -1.0, 1.0)
    n_tests = int(np.isfinite(rho).sum())
    if not n_tests:
        return Correlations(rho=rho, low=rho.copy(), high=rho.copy(), n_cases=n, n_tests=0)
    reach = float(norm.isf((1 - level) / (2 * n_tests)))
    spread = reach * np.sqrt((1 + rho**2 / 2) / (n - 3 - n_fixed))
    # of perfect agreement z is infinite, and so are its bounds
    with np.errstate(divide="ignore"):
        z = np.arctanh(rho)
    return Correlations(
        rho=rho, low=np.tanh(z - spread), high=np.tanh(z + spread), n_cases=n, n_tests=n_tests
    )


def _standard_ranks(
    values: Float[np.ndarray, "n_cases n_columns"], groups: Int64[np.ndarray, " n_cases"] | None
) -> Float64[np.ndarray, "n_cases n_columns"]:
    """Give ranks as columns of length 1 about 0, of each group where there are groups."""
    ranks = rankdata(values, axis=0).astype(np.float64)
    if groups is None:
        ranks -= ranks.mean(axis=0)
    else:
        for group in np.unique(groups):
            ranks[groups == group] -= ranks[groups == group].mean(axis=0)
    length = np.linalg.norm(ranks, axis=0)
    flat = length < _LEAST_SPREAD * len(ranks)
    return np.where(flat, np.nan, ranks / np.where(flat, 1.0, length))
