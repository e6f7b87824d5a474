"""``momkd evaluate``: metrics with case-level intervals, per fold and pooled, and a report."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from momkd.errors import DataError
from momkd.evaluation.calibration_intervals import calibration_with_intervals
from momkd.evaluation.corrected_tests import corrected_t
from momkd.evaluation.decision import decision_curve
from momkd.evaluation.summary import METRICS, FoldScores, fold_metrics, summarise_folds
from momkd.storage import digest_file, write_json, write_text
from momkd.workflows.audit import AuditedCohort
from momkd.workflows.comparison_page import read_comparison
from momkd.workflows.external import notes_of_external, open_external, predict_external
from momkd.workflows.fold_search import score_searches
from momkd.workflows.frozen_protocol import NOT_FROZEN, FrozenProtocol, open_protocol
from momkd.workflows.prediction_tables import read_prediction_table
from momkd.workflows.run_folder import describe_machine, read_predictions, read_run, read_side_ratio
from momkd.workflows.run_report import write_run_report
from momkd.workflows.scored_cases import average_slides, fold_scores, scores_of

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
    IntegrityError
        K16, K17 the run is no longer what its protocol laid down.
    """
    folder = Path(run)
    manifest = read_run(folder)
    if external is not None:
        return evaluate_external(folder, open_external(external), Path(external).stem)
    if predictions is not None:
        table = read_prediction_table(Path(predictions))
        manifest.pop("protocol", None)  # of the run, not of this table
        target = folder / f"evaluation-{Path(predictions).stem}"
    else:
        table, target = require_tests(folder, read_predictions(folder)), folder
        require_all_models(folder, manifest, table)
    _write_scores(folder, target, manifest, table, (), dropped=folder / "dropped.csv")
    return target


def evaluate_external(run: Path, audited: AuditedCohort, name: str) -> Path:
    """Score an external cohort by all fold models of each method of a run.

    Returns
    -------
    Path
        The folder ``external-<name>`` in the run folder, with ``predictions.csv`` and scores.

    Raises
    ------
    DataError
        P13 no run.
    ModelError
        P12 other classes, or slides that taught the run; P10 a fold model is missing.
    IntegrityError
        K16, K17 the run is no longer what its protocol laid down.
    """
    manifest = read_run(run)
    open_protocol(run, manifest)
    table, taught_share = predict_external(run, audited.audit.cohort)
    target = run / f"external-{name}"
    write_text(target / "predictions.csv", table.to_csv(index=False, lineterminator="\n"))
    audited.audit.write(target)
    notes = notes_of_external(audited.audit.cohort, taught_share)
    counts = [{"what": k, "n": v} for k, v in audited.audit.counts().items()]
    manifest |= {"counts": counts, "notes": audited.notes, "folds": []}
    manifest["proof"] = {"protocol": "an external cohort, scored once by all fold models"}
    _write_scores(run, target, manifest, table, notes, dropped=target / "dropped.csv")
    return target


def _write_scores(
    run: Path,
    target: Path,
    manifest: Mapping[str, Any],
    table: pd.DataFrame,
    notes: Sequence[str],
    *,
    dropped: Path,
) -> None:
    """Write ``metrics.json`` and ``report.html`` of predictions into their folder."""
    is_own = target == run
    metrics = score_run(manifest, table, notes, folds_of=run if is_own else None)
    metrics["protocol"] = manifest.get("protocol")
    searches = score_searches(run, manifest.get("jobs", ())) if is_own else {}
    if searches:
        metrics["search"] = searches
    if is_own:
        metrics["predictions_sha256"] = digest_file(run / "predictions.csv")
    write_json(target / "metrics.json", metrics)
    write_run_report(
        target,
        manifest,
        metrics,
        average_slides(table),
        dropped=dropped,
        configuration=run / "config.yaml",
        run=run if is_own else None,
        comparison=read_comparison(run) if is_own else None,
    )


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
    if folds_of is not None and "protocol" not in manifest:
        metrics["notes"].append(NOT_FROZEN)
    return metrics


def require_all_models(
    folder: Path, manifest: Mapping[str, Any], table: pd.DataFrame
) -> FrozenProtocol | None:
    """Open the protocol of a run, and refuse predictions that lack one of its models.

    Raises
    ------
    IntegrityError
        K16, K17 as :mod:`momkd.workflows.frozen_protocol` says.
    """
    frozen = open_protocol(folder, manifest)
    if frozen is not None:
        frozen.require_scored(list(table["model"].unique()), folder / "predictions.csv")
    return frozen


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
        # the t distribution does not know where an area ends
        and {"value": again.value}
        | {k: float(np.clip(getattr(again, k), 0.0, 1.0)) for k in ("low", "high")},
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
