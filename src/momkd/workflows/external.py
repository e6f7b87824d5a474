"""A cohort that a run has never seen: its door, and what the fold models say of it together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from momkd.data.features import read_bag
from momkd.errors import ModelError
from momkd.types import Cohort
from momkd.workflows.audit import AuditedCohort, audit_cohort
from momkd.workflows.predict import load_ensembles
from momkd.workflows.settings import load_settings


def open_external(config: Path | str) -> AuditedCohort:
    """Read the momkd.yaml of an external cohort and examine all of its files."""
    return audit_cohort(load_settings([Path(config)]).data)


def predict_external(run: Path, cohort: Cohort) -> tuple[pd.DataFrame, float | None]:
    """Score an external cohort by the ensemble of all fold models of each method.

    Returns
    -------
    pandas.DataFrame
        A row a slide and method: ``case_id, slide_id, model, seed, fold, y_true, prob_<class>...,
        threshold``, the threshold as chosen on validation.
    float or None
        The share of positive cases that the models were taught with.

    Raises
    ------
    ModelError
        P12 other classes, or slides that taught the run; P10 a fold model is missing.
    """
    ensembles = load_ensembles(run)
    rows = []
    for name, ensemble in ensembles.items():
        _require_external(run, cohort, ensemble.card.class_names, ensemble.has_seen)
        for case in cohort.cases:
            for slide_id in case.slide_ids:
                bag = read_bag(cohort.slides[slide_id], k=ensemble.card.neighbours)
                p = ensemble.predict(bag).prediction.probabilities
                row: dict[str, Any] = {"case_id": case.case_id, "slide_id": slide_id}
                row["model"] = name
                row |= {"seed": 0, "fold": 0, "y_true": case.label}
                row |= {f"prob_{c}": v for c, v in zip(cohort.class_names, p, strict=True)}
                rows.append(row | {"threshold": ensemble.threshold})
    return pd.DataFrame(rows), next(iter(ensembles.values())).positive_share


def notes_of_external(cohort: Cohort, taught_share: float | None) -> list[str]:
    """Say how common the class is here and where the models were taught, and what was averaged."""
    share = float(np.mean([c.label for c in cohort.cases if c.slide_ids]))
    taught = "" if taught_share is None else f" ({taught_share:.1%} where the models were taught)"
    return [
        f"external cohort: {share:.1%} positive{taught}; thresholds as chosen on validation, "
        "not re-fitted",
        "one ensemble of all fold models, scores averaged: one interval, no SD over models",
    ]


def _require_external(run: Path, cohort: Cohort, class_names: Sequence[str], has_seen: Any) -> None:
    if tuple(cohort.class_names) != tuple(class_names):
        what = f"has classes {cohort.class_names}, the run {tuple(class_names)}"
        raise ModelError.of("P12", "external cohort", what, "use the run's target values")
    shared = sorted(s.slide_id for s in cohort.slides.values() if has_seen(s.content_sha256))
    if shared:
        what = f"{len(shared)} of its slides taught the models of {run.name} (first: {shared[0]})"
        raise ModelError.of("P12", "external cohort", what, "leave these cases out")
