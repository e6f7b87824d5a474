"""``momkd evaluate``: metrics with case-level intervals, per fold and pooled, and a report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from momkd.data.features import read_bag
from momkd.errors import DataError, ModelError
from momkd.evaluation.metrics import calibration_intercept, calibration_slope
from momkd.evaluation.summary import METRICS, FoldScores, summarise_folds, weighted_metrics
from momkd.storage import write_json, write_text
from momkd.types import Cohort
from momkd.workflows.audit import AuditedCohort, audit_cohort
from momkd.workflows.predict import load_ensembles
from momkd.workflows.run_folder import describe_machine, read_predictions, read_run
from momkd.workflows.run_report import write_run_report
from momkd.workflows.scored_cases import average_slides, fold_scores, scores_of
from momkd.workflows.settings import load_settings

_CIRCULAR = (
    "odx",
    "oncotype",
)


def evaluate(
    run: Path | str,
    *,
    predictions: Path | str | None = None,
    external: Path | str | None = None,
) -> Path:
    """Score a run's out-of-fold predictions, a table of predictions, or an external cohort.

    Parameters
    ----------
    run
        Run folder.
    predictions
        CSV with ``case_id, y_true, prob_<class>...`` and optionally ``model, seed, fold,
        threshold``; scored instead of the run's own.
    external
        momkd.yaml of a cohort that the run has never seen: its slides are scored by the ensemble
        of all fold models of each method, thresholds as chosen on validation.

    Returns
    -------
    Path
        Folder with ``metrics.json`` and ``report.html``.

    Raises
    ------
    DataError
        P13, P14 no run or no predictions; P17 a table without the columns needed.
    ModelError
        P12 an external cohort of other classes, or one that shares slides with the run.
    """
    folder = Path(run)
    manifest = read_run(folder)
    dropped = folder / "dropped.csv"
    if external is not None:
        table, audited = _predict_external(folder, Path(external))
        target = folder / f"external-{Path(external).stem}"
        write_text(target / "predictions.csv", table.to_csv(index=False, lineterminator="\n"))
        audited.audit.write(target)
        dropped = target / "dropped.csv"
        notes = _notes_of_external(audited.audit.cohort)
        counts = [{"what": k, "n": n} for k, n in audited.audit.counts().items()]
        manifest |= {"counts": counts, "notes": audited.notes, "folds": []}
        manifest["proof"] = {"protocol": "an external cohort, scored once by all fold models"}
    elif predictions is not None:
        table, notes = _read_table(Path(predictions)), []
        target = folder / f"evaluation-{Path(predictions).stem}"
    else:
        table, notes = _require_tests(folder, read_predictions(folder)), []
        target = folder
    metrics = score_table(table, manifest["task"], manifest["class_names"])
    metrics["notes"] += [*notes, *manifest.get("model_notes", ())]
    write_json(target / "metrics.json", metrics)
    write_run_report(
        target,
        manifest,
        metrics,
        average_slides(table),
        dropped=dropped,
        configuration=folder / "config.yaml",
    )
    return target


def score_table(table: pd.DataFrame, task: str, class_names: Sequence[str]) -> dict[str, Any]:
    """Score long-form predictions: one entry a model."""
    cases = average_slides(table)
    models = {str(name): _score_model(part) for name, part in cases.groupby("model", sort=False)}
    return {
        "task": task,
        "class_names": list(class_names),
        "shown": ["auroc", "auprc", "accuracy", "majority_rate", "macro_f1", "brier"],
        "models": models,
        "notes": _notes(task, models),
        "machine": describe_machine(),
    }


def _score_model(cases: pd.DataFrame) -> dict[str, Any]:
    folds = fold_scores(cases)
    # thresholds differ from fold to fold, so only metrics that need none are pooled
    pooled = [scores_of(part) for _, part in cases.groupby("seed", sort=True)]
    pooled_scores = {
        name: asdict(interval)
        for name, interval in summarise_folds(pooled).items()
        if name in ("auroc", "auprc", "brier")
    }
    for name, measure in (
        ("calibration_slope", calibration_slope),
        ("calibration_intercept", calibration_intercept),
    ):
        values = [measure(p.labels, p.probabilities) for p in pooled]
        pooled_scores[name] = {"value": float(np.mean(values)), "low": None, "high": None}
    per_fold = [_fold_row(f) for f in folds]
    spread = np.array([row["auroc"] for row in per_fold])
    return {
        "n_cases": int(cases["case_id"].nunique()),
        "n_fits": len(folds),
        "mean_over_folds": {k: asdict(v) for k, v in summarise_folds(folds).items()},
        "auroc_sd_over_folds": float(spread.std(ddof=1)) if len(spread) > 1 else math.nan,
        "pooled": pooled_scores,
        "per_fold": per_fold,
    }


def _fold_row(fold: FoldScores) -> dict[str, Any]:
    ones = np.ones((1, len(fold.labels)))
    found = weighted_metrics(fold.labels, fold.probabilities, fold.threshold, ones)
    row: dict[str, Any] = {"seed": fold.seed, "fold": fold.fold, "n": len(fold.labels)}
    row["n_positive"] = int(fold.labels.sum())
    row["threshold"] = fold.threshold
    return row | {name: float(found[name][0]) for name in METRICS}


def _notes(task: str, models: Mapping[str, Any]) -> list[str]:
    notes = [
        "intervals: 95 %, case-level bootstrap (2,000 draws) of the mean over folds and seeds; "
        "accuracy is to be read beside the majority rate"
    ]
    if any(word in task.casefold() for word in _CIRCULAR):
        notes.append(
            f"{task} is a research score computed from expression: an RNA teacher is partly "
            "circular on it"
        )
    for name, entry in models.items():
        undefined = [r for r in entry["per_fold"] if math.isnan(r["auroc"])]
        if undefined:
            notes.append(f"{name}: AUROC not defined in {len(undefined)} folds (1 class)")
    return notes


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"case_id": str, "slide_id": str, "model": str})
    except (OSError, ValueError) as error:
        raise DataError.of("P17", str(path), f"cannot be read: {error}") from None
    probabilities = [c for c in table.columns if c.startswith("prob_")]
    if not {"case_id", "y_true"} <= set(table.columns) or len(probabilities) != 2:
        what = "wanted columns case_id, y_true and two prob_<class>"
        raise DataError.of("P17", str(path), f"{what}, got {', '.join(table.columns)}")
    defaults: dict[str, Any] = {"model": path.stem, "seed": 0, "fold": 0, "threshold": 0.5}
    return table.assign(**{k: v for k, v in defaults.items() if k not in table.columns})


def _require_tests(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    if not (table["split"] == "test").any():
        what = "holds no test predictions: momkd train leaves no case to score"
        raise DataError.of("P14", str(folder), what, "score a momkd crossval, or --external")
    return table


def _predict_external(run: Path, config: Path) -> tuple[pd.DataFrame, AuditedCohort]:
    settings = load_settings([config])
    audited = audit_cohort(settings.data)
    cohort = audited.audit.cohort
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
    return pd.DataFrame(rows), audited


def _notes_of_external(cohort: Cohort) -> list[str]:
    share = float(np.mean([c.label for c in cohort.cases if c.slide_ids]))
    return [
        f"external cohort: {share:.1%} positive; thresholds as chosen on validation, not re-fitted",
        "one ensemble of all fold models, scores averaged: one interval, no SD over models",
    ]


def _require_external(run: Path, cohort: Cohort, class_names: Sequence[str], has_seen: Any) -> None:
    if tuple(cohort.class_names) != tuple(class_names):
        what = f"has classes {cohort.class_names}, the run {tuple(class_names)}"
        raise ModelError.of("P12", "external cohort", what, "use the run's target values")
    shared = sorted(s.slide_id for s in cohort.slides.values() if has_seen(s.sha256))
    if shared:
        what = f"{len(shared)} of its slides taught the models of {run.name} (first: {shared[0]})"
        raise ModelError.of("P12", "external cohort", what, "leave these cases out")
