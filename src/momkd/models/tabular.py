"""Bounds and baselines that are no models of slides: logistic regression on a table of cases.

They answer what a model of slides is to be held against: what RNA itself knows of the label
(``rna_logistic``, an upper bound, which reads RNA of test cases), and what age or stage know
(``clinical_logistic``). Neither is a predictor of slides, and neither is ever served.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from momkd.config import Options

MAX_STEPS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TabularKind:
    """What a tabular model reads, and what has to be said wherever its figures stand."""

    reads: Literal["rna", "covariates"]
    note: str


TABULAR: dict[str, TabularKind] = {
    "rna_logistic": TabularKind(
        reads="rna",
        note="rna_logistic: upper bound, reads RNA of the test cases; not a predictor of slides",
    ),
    "clinical_logistic": TabularKind(
        reads="covariates",
        note="clinical_logistic: baseline of clinical covariates; not a predictor of slides",
    ),
}
"""Every tabular model by its name; they stand beside, not in, the table of slide models."""


class TabularOptions(Options):
    """Hyper-parameters of a tabular model.

    Parameters
    ----------
    grid
        Inverse strengths of the L2 penalty to choose from, by the likelihood of validation cases.
    """

    grid: tuple[float, ...] = Field((1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0), min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TabularModel:
    """A fitted logistic regression, two classes: log-odds = weight' x + bias."""

    weight: Float64[np.ndarray, " n_columns"]
    bias: float
    strength: float

    def logits(self, x: Float64[np.ndarray, "n n_columns"]) -> Float64[np.ndarray, "n 2"]:
        """Give logits; that of class 0 is 0."""
        odds = x @ self.weight + self.bias
        return np.stack([np.zeros_like(odds), odds], axis=1)


def fit_tabular(
    x: Float64[np.ndarray, "n n_columns"],
    labels: Int64[np.ndarray, " n"],
    x_val: Float64[np.ndarray, "n_val n_columns"],
    labels_val: Int64[np.ndarray, " n_val"],
    options: TabularOptions,
) -> TabularModel:
    """Fit on training cases at every strength, keep the one that validation cases like best.

    Parameters
    ----------
    x, x_val
        Columns on comparable scales; both classes in ``labels``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    best: tuple[float, TabularModel] | None = None
    for strength in sorted(options.grid):  # of equals the strongest penalty is kept
        solver = LogisticRegression(C=strength, max_iter=MAX_STEPS, tol=1e-8)
        solver.fit(x, labels)
        model = TabularModel(
            weight=solver.coef_[0].astype(np.float64),
            bias=float(solver.intercept_[0]),
            strength=strength,
        )
        loss = float(log_loss(labels_val, solver.predict_proba(x_val)[:, 1], labels=[0, 1]))
        if best is None or loss < best[0] - 1e-12:
            best = loss, model
    assert best is not None
    return best[1]
