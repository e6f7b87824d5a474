"""From logits to probabilities and decisions, by the validation side alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

# Prior of log temperature and offset, as SDs: so light that a hundred cases outweigh it, enough
# that a validation side with 14 positives, or one that is separated, gives finite values.
_SD_LOG_TEMPERATURE = 1.0
_SD_OFFSET = 3.0
_SENSITIVITY = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """p = sigmoid((l1 - l0) / temperature + offset).

    The offset undoes the shift that class-balanced sampling puts into the logits; a temperature
    alone (Guo et al. 2017) cannot.
    """

    temperature: float = 1.0
    offset: float = 0.0

    def probabilities(self, logits: Float[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Turn logits into calibrated probabilities; rows sum to 1."""
        wide = logits.astype(np.float64)
        p = expit((wide[:, 1] - wide[:, 0]) / self.temperature + self.offset)
        return np.stack([1 - p, p], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A cut on the calibrated probability, and what it gave on the cases it was chosen on."""

    value: float
    sensitivity: float
    specificity: float


def fit_calibration(logits: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"]) -> Calibration:
    """Fit temperature and offset by penalised maximum likelihood.

    Parameters
    ----------
    logits, labels
        Of validation cases or slides; never of training or test ones.
    """
    margin = logits[:, 1].astype(np.float64) - logits[:, 0]

    def loss(x: NDArray[np.float64]) -> float:
        z = margin * np.exp(-x[0]) + x[1]
        penalty = (x[0] / _SD_LOG_TEMPERATURE) ** 2 / 2 + (x[1] / _SD_OFFSET) ** 2 / 2
        return float(np.sum(np.logaddexp(0, z) - labels * z) + penalty)

    best = minimize(loss, np.zeros(2), method="BFGS").x
    return Calibration(temperature=float(np.exp(best[0])), offset=float(best[1]))


def choose_thresholds(
    probability: Float64[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> dict[str, Threshold]:
    """Choose cuts on validation cases: a case is called positive where p >= the cut.

    ``max_f1`` maximises the F1 of the positive class; ``sensitivity_95`` is the highest cut that
    still finds 95 % of the positive cases. Candidates are midpoints between neighbouring
    probabilities (and the lowest one), so that a cut lies on no case; of equal ones the higher.
    """
    levels = np.unique(probability)
    cuts = np.concatenate([levels[:1], (levels[1:] + levels[:-1]) / 2])
    called = probability[None, :] >= cuts[:, None]
    yes = labels == 1
    hit = (called & yes).sum(axis=1)
    false = (called & ~yes).sum(axis=1)
    sensitivity = hit / max(int(yes.sum()), 1)
    specificity = 1 - false / max(int((~yes).sum()), 1)
    f1 = 2 * hit / np.maximum(hit + false + yes.sum(), 1)
    chosen = {
        "max_f1": int(np.flatnonzero(f1 == f1.max())[-1]),
        "sensitivity_95": int(np.flatnonzero(sensitivity >= _SENSITIVITY)[-1]),
    }
    return {
        rule: Threshold(
            value=float(cuts[i]),
            sensitivity=float(sensitivity[i]),
            specificity=float(specificity[i]),
        )
        for rule, i in chosen.items()
    }
