"""Decision curves: what acting on a probability is worth, against acting on all or on none.

Vickers and Elkin, Medical Decision Making 26:565 (2006). Net benefit at a threshold probability t
is TP/n - FP/n * t / (1 - t): t says how many needless actions one right action is worth.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Integer

RANGE = (0.05, 0.5)
"""Threshold probabilities looked at: from 19 to 1 needless actions for a right one."""

N_THRESHOLDS = 46


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionCurve:
    """Net benefit by threshold probability; of acting on none it is 0 throughout."""

    thresholds: Float64[np.ndarray, " t"]
    net_benefit: Float64[np.ndarray, " t"]
    treat_all: Float64[np.ndarray, " t"]


def decision_curve(
    labels: Integer[np.ndarray, " n"],
    prob_positive: Float[np.ndarray, " n"],
    *,
    within: tuple[float, float] = RANGE,
) -> DecisionCurve:
    """Give the net benefit of acting on cases at or above each threshold probability.

    Parameters
    ----------
    within
        First and last threshold, between 0 and 1; outside the range that somebody would really
        act at, a curve says nothing.
    """
    thresholds = np.linspace(*within, N_THRESHOLDS)
    odds = thresholds / (1 - thresholds)
    called = prob_positive[None, :] >= thresholds[:, None]
    yes = labels == 1
    share = float(yes.mean())
    return DecisionCurve(
        thresholds=thresholds,
        net_benefit=(called & yes).mean(axis=1) - (called & ~yes).mean(axis=1) * odds,
        treat_all=share - (1 - share) * odds,
    )
