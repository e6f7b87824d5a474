"""A difference with what stands around it: interval, p, and the least that could be seen."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm, t

LEVEL = 0.95
"""Coverage of every interval; 1 - LEVEL is the error that every test allows itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure, or a difference of two, and what may be said of it.

    Parameters
    ----------
    value
        The figure itself.
    standard_error, low, high
        Its standard error and interval; NaN where not defined.
    p
        Two-sided, of the difference being 0; NaN for a figure that is no difference.
    minimum_detectable
        The smallest absolute difference that would have had p < 1 - level here.
    why_undefined
        Why something is NaN; empty where nothing is.
    """

    value: float
    standard_error: float
    low: float
    high: float
    p: float = float("nan")
    minimum_detectable: float = float("nan")
    why_undefined: str = ""


def undefined(value: float, why: str) -> Estimate:
    """Give a figure of which nothing more can be said, and why."""
    nan = float("nan")
    return Estimate(value=value, standard_error=nan, low=nan, high=nan, why_undefined=why)


def symmetric_estimate(
    value: float, standard_error: float, *, df: float = np.inf, level: float = LEVEL
) -> Estimate:
    """Give the t interval and test of a difference; the normal ones with infinite ``df``."""
    law = norm() if np.isinf(df) else t(df)
    reach = float(law.ppf((1 + level) / 2)) * standard_error
    return Estimate(
        value=value,
        standard_error=standard_error,
        low=value - reach,
        high=value + reach,
        p=float(2 * law.sf(abs(value) / standard_error)),
        minimum_detectable=reach,
    )


def bootstrap_estimate(draws: Float64[np.ndarray, " draws"], level: float = LEVEL) -> Estimate:
    """Give the percentile interval of a difference, and the p that belongs to it.

    Parameters
    ----------
    draws
        The difference as observed, then in each bootstrap draw; draws in which it is not defined
        do not count.

    Notes
    -----
    p is twice the smaller share of draws on one side of 0, each share with one draw added to
    both counts (Davison and Hinkley 1997, section 4.2), so it is never 0.
    """
    value, drawn = float(draws[0]), draws[1:][~np.isnan(draws[1:])]
    if np.isnan(value) or len(drawn) < 2:
        return undefined(value, "not defined as observed" if np.isnan(value) else "no draws")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    at_most, at_least = (drawn <= 0).sum(), (drawn >= 0).sum()
    error = float(drawn.std(ddof=1))
    return Estimate(
        value=value,
        standard_error=error,
        low=float(low),
        high=float(high),
        p=float(min(1.0, 2 * (1 + min(at_most, at_least)) / (1 + len(drawn)))),
        minimum_detectable=float(norm.ppf((1 + level) / 2)) * error,
    )
