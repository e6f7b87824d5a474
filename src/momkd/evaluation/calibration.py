"""From logits to probabilities that can be read as such, and from probabilities to a call.

Everything here is fitted on validation cases and applied unchanged afterwards.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Integer
from numpy.typing import NDArray
from scipy.special import expit

from momkd.errors import DataError

# Priors of log(temperature) and offset: normal about "leave it as it is". A validation side of 65
# cases with 14 positives outweighs them about ten to one; one that is separable, or has one class,
# still gives finite numbers.
SD_LOG_TEMPERATURE = 1.0
SD_OFFSET = 2.0
# beyond these the optimiser does not look: temperature 0.001 to 1,100
_BOUNDS = ((-7.0, 7.0), (-20.0, 20.0))

SENSITIVITY_WANTED = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Probability of class 1 = sigmoid((logit_1 - logit_0) / temperature + offset).

    The offset undoes the shift that class-balanced sampling gives to the log-odds (Prentice and
    Pyke, Biometrika 66:403, 1979), which a temperature (Guo et al., ICML 2017) cannot. Ranks,
    and so AUROC, do not change.
    """

    temperature: float = 1.0
    offset: float = 0.0

    def probabilities(self, logits: Float[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Give the probabilities of both classes; each row sums to 1."""
        margin = logits[:, 1].astype(np.float64) - logits[:, 0].astype(np.float64)
        z = margin / self.temperature + self.offset
        return np.stack([expit(-z), expit(z)], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A cut on the probability of class 1, and what it achieved where it was chosen."""

    rule: str
    value: float
    sensitivity: float
    specificity: float


def fit_calibration(
    logits: Float[np.ndarray, "n 2"], labels: Integer[np.ndarray, " n"]
) -> Calibration:
    """Fit temperature and offset to validation logits by penalised maximum likelihood.

    Minimises the summed log loss + log(temperature)^2 / 2 + offset^2 / 8.
    """
    margin = logits[:, 1].astype(np.float64) - logits[:, 0].astype(np.float64)

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_slope, offset = at
        scaled = margin * np.exp(log_slope)
        z = scaled + offset
        residual = expit(z) - labels
        penalty = (log_slope / SD_LOG_TEMPERATURE) ** 2 / 2 + (offset / SD_OFFSET) ** 2 / 2
        gradient = [
            (residual * scaled).sum() + log_slope / SD_LOG_TEMPERATURE**2,
            residual.sum() + offset / SD_OFFSET**2,
        ]
        return float(np.sum(np.logaddexp(0, z) - labels * z) + penalty), np.array(gradient)

    from scipy.optimize import minimize

    found = minimize(
        loss,
        np.zeros(2),
        jac=True,
        method="L-BFGS-B",
        bounds=_BOUNDS,
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500},
    )
    log_slope, offset = found.x
    return Calibration(temperature=float(np.exp(-log_slope)), offset=float(offset))


def choose_thresholds(
    prob_positive: Float[np.ndarray, " n"], labels: Integer[np.ndarray, " n"]
) -> dict[str, Threshold]:
    """Choose a cut by each rule on calibrated validation probabilities.

    ``max_f1`` has the highest F1 of the positive class; ``sensitivity_95`` the highest
    specificity among cuts with a sensitivity of at least 0.95 (pre-screening). Of equally good
    cuts the highest is taken. A cut lies midway between two observed probabilities.

    Raises
    ------
    DataError
        K04 one class only: no rule can be followed.
    """
    n_yes = int((labels == 1).sum())
    n_no = len(labels) - n_yes
    if not n_yes or not n_no:
        what = f"{n_yes} positive and {n_no} negative cases, wanted both to choose a threshold"
        remedy = "raise folds.val_fraction or lower folds.n"
        raise DataError.of("K04", "validation side", what, remedy)
    cuts = _cuts(prob_positive.astype(np.float64))
    called = prob_positive[None, :] >= cuts[:, None]
    hit = (called & (labels == 1)).sum(axis=1)
    false = called.sum(axis=1) - hit
    sensitivity, specificity = hit / n_yes, 1 - false / n_no
    f1 = 2 * hit / (hit + false + n_yes)
    enough = sensitivity >= SENSITIVITY_WANTED

    def take(rule: str, merit: NDArray[np.float64]) -> Threshold:
        best = int(np.argmax(merit))  # the first of equals: cuts descend
        return Threshold(
            rule=rule,
            value=float(cuts[best]),
            sensitivity=float(sensitivity[best]),
            specificity=float(specificity[best]),
        )

    rules: dict[str, NDArray[np.float64]] = {
        "max_f1": f1,
        "sensitivity_95": np.where(enough, specificity, -1.0),
    }
    return {rule: take(rule, merit) for rule, merit in rules.items()}


def _cuts(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give descending cuts, each calling one more distinct probability positive."""
    values = np.unique(probabilities)[::-1]
    middle = (values[:-1] + values[1:]) / 2
    # two neighbouring floats have no number between them
    middle = np.where(middle > values[1:], middle, values[:-1])
    return np.append(middle, values[-1])
