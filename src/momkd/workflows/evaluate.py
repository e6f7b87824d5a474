"""``momkd evaluate``: metrics with case-level intervals, per fold and pooled, and a report."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from momkd.data.features import read_bag
from momkd.errors import DataError, ModelError
from momkd.evaluation.calibration_intervals import calibration_with_intervals
from momkd.evaluation.corrected_tests import corrected_t
from momkd.evaluation.decision import decision_curve
from momkd.evaluation.summary import METRICS, FoldScores, fold_metrics, summarise_folds
from momkd.storage import digest_file, write_json, write_text
from momkd.types import Cohort
from momkd.workflows.audit import AuditedCohort, audit_cohort
from momkd.workflows.comparison_page import read_comparison
from momkd.workflows.predict import load_ensembles
from momkd.workflows.prediction_tables import read_prediction_table
from momkd.workflows.run_folder import describe_machine, read_predictions, read_run, read_side_ratio
from momkd.workflows.run_report import write_run_report
from momkd.workflows.scored_cases import average_slides, fold_scores, scores_of
from momkd.workflows.settings import load_settings

_POOLED = (
    "auroc",
    "auprc",
    "sensitivity_at_specificity_90",
    "specificity_at_sensitivity_95",
    "brier",
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
        table, audited, taught_share = _predict_external(folder, Path(external))
        target = folder / f"external-{Path(external).stem}"
        write_text(target / "predictions.csv", table.to_csv(index=False, lineterminator="\n"))
        audited.audit.write(target)
        dropped = target / "dropped.csv"
        notes = _notes_of_external(audited.audit.cohort, taught_share)
        counts = [{"what": k, "n": n} for k, n in audited.audit.counts().items()]
        manifest |= {"counts": counts, "notes": audited.notes, "folds": []}
        manifest["proof"] = {"protocol": "an external cohort, scored once by all fold models"}
    elif predictions is not None:
        table, notes = read_prediction_table(Path(predictions)), []
        target = folder / f"evaluation-{Path(predictions).stem}"
    else:
        table, notes = require_tests(folder, read_predictions(folder)), []
        target = folder
    metrics = score_run(manifest, table, notes, folds_of=folder if target == folder else None)
    if target == folder:
        metrics["predictions_sha256"] = digest_file(folder / "predictions.csv")
    write_json(target / "metrics.json", metrics)
    write_run_report(
        target,
        manifest,
        metrics,
        average_slides(table),
        dropped=dropped,
        configuration=folder / "config.yaml",
        run=folder if target == folder else None,
        comparison=read_comparison(folder) if target == folder else None,
    )
    return target


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """Give ``metrics.json`` of these very predictions; None where there is none, or an older."""
    path = folder / "metrics.json"
    if not path.exists():
        return None
    metrics = json.loads(path.read_text(encoding="utf-8"))
    if metrics.get("metrics") != list(METRICS):
        return None
    is_current = metrics.get("predictions_sha256") == digest_file(folder / "predictions.csv")
    return metrics if is_current else None


def refresh_report(folder: Path) -> None:
    """Write ``report.html`` of a run again, from the scores as they stand."""
    metrics = read_metrics(folder)
    if metrics is None:
        evaluate(folder)
        return
    write_run_report(
        folder,
        read_run(folder),
        metrics,
        average_slides(read_predictions(folder)),
        dropped=folder / "dropped.csv",
        configuration=folder / "config.yaml",
        run=folder,
        comparison=read_comparison(folder),
    )


def score_run(
    manifest: Mapping[str, Any],
    table: pd.DataFrame,
    notes: Sequence[str] = (),
    *,
    folds_of: Path | None = None,
) -> dict[str, Any]:
    """Score predictions, with what the manifest says of label and models among the notes.

    Parameters
    ----------
    folds_of
        The run folder whose ``folds.csv`` tells how large the sides were.
    """
    ratio = None if folds_of is None else read_side_ratio(folds_of)
    names = manifest["class_names"]
    metrics = score_table(table, manifest["task"], names, test_over_train=ratio)
    metrics["notes"] += [*manifest.get("target_notes", ()), *notes]
    metrics["notes"] += manifest.get("model_notes", ())
    return metrics


def require_tests(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Give a run's predictions if there are tested cases among them.

    Raises
    ------
    DataError
        P14 there are none.
    """
    if not (table["split"] == "test").any():
        what = "holds no test predictions: momkd train leaves no case to score"
        raise DataError.of("P14", str(folder), what, "score a momkd crossval, or --external")
    return table


def score_table(
    table: pd.DataFrame,
    task: str,
    class_names: Sequence[str],
    *,
    test_over_train: float | None = None,
) -> dict[str, Any]:
    """Score long-form predictions: one entry a model.

    With ``test_over_train`` (cases tested over cases trained on in a fold), the AUROC gets a second
    interval, which allows for models that would come out otherwise if trained again.
    """
    cases = average_slides(table)
    parts = cases.groupby("model", sort=False)
    models = {str(name): _score_model(part, test_over_train) for name, part in parts}
    return {
        "task": task,
        "class_names": list(class_names),
        "metrics": list(METRICS),
        "shown": ["auroc", "auprc", "accuracy", "majority_rate", "macro_f1", "brier"],
        "models": models,
        "notes": _notes(models),
        "machine": describe_machine(),
    }


def _score_model(cases: pd.DataFrame, test_over_train: float | None) -> dict[str, Any]:
    folds = fold_scores(cases)
    # thresholds differ from fold to fold, so only metrics that need none are pooled
    pooled = [scores_of(part) for _, part in cases.groupby("seed", sort=True)]
    found = summarise_folds(pooled)
    pooled_scores = {name: found[name] for name in _POOLED} | calibration_with_intervals(pooled)
    per_fold = [_fold_row(f) for f in folds]
    spread = np.array([row["auroc"] for row in per_fold])
    again = None if test_over_train is None else corrected_t(spread, test_over_train)
    return {
        "n_cases": int(cases["case_id"].nunique()),
        "n_fits": len(folds),
        "mean_over_folds": {k: asdict(v) for k, v in summarise_folds(folds).items()},
        "auroc_sd_over_folds": float(spread.std(ddof=1)) if len(spread) > 1 else math.nan,
        "auroc_if_trained_again": again
        and {"value": again.value, "low": again.low, "high": again.high},
        "pooled": {name: asdict(interval) for name, interval in pooled_scores.items()},
        "decision_curve": _decision_curve(pooled),
        "per_fold": per_fold,
    }


def _fold_row(fold: FoldScores) -> dict[str, Any]:
    row: dict[str, Any] = {"seed": fold.seed, "fold": fold.fold, "n": len(fold.labels)}
    row["n_positive"] = int(fold.labels.sum())
    row["threshold"] = fold.threshold
    return row | fold_metrics(fold)


def _decision_curve(pooled: Sequence[FoldScores]) -> dict[str, list[float]]:
    """Give net benefit by threshold probability, over the scores of all repeats together."""
    curve = decision_curve(
        np.concatenate([p.labels for p in pooled]),
        np.concatenate([p.probabilities for p in pooled]),
    )
    return {name: values.tolist() for name, values in asdict(curve).items()}


def _notes(models: Mapping[str, Any]) -> list[str]:
    notes = [
        "intervals: 95 %, case-level bootstrap (2,000 draws) of the mean over folds and seeds; "
        "accuracy is to be read beside the majority rate"
    ]
    for name, entry in models.items():
        undefined = [r for r in entry["per_fold"] if math.isnan(r["auroc"])]
        if undefined:
            notes.append(f"{name}: AUROC not defined in {len(undefined)} folds (1 class)")
    return notes


def _predict_external(run: Path, config: Path) -> tuple[pd.DataFrame, AuditedCohort, float | None]:
    """Score an external cohort; give the share of positive cases the models were taught with."""
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
    return pd.DataFrame(rows), audited, next(iter(ensembles.values())).positive_share


def _notes_of_external(cohort: Cohort, taught_share: float | None) -> list[str]:
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
