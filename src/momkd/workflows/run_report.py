"""The page of a run: everything the folder knows, brought into the form of a report."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from momkd.evaluation.decision import RANGE, decision_curve
from momkd.evaluation.summary import METRICS, FoldScores
from momkd.reporting.figures import draw_calibration, draw_decision_curves, draw_roc
from momkd.reporting.report import Comparison, Picture, Report, write_report
from momkd.workflows.scored_cases import fold_scores
from momkd.workflows.settings import PATH_KEYS

_LIMITS = (
    "Research software, not a medical device.",
    "Valid for slides like those it was taught on: same encoder, tile size and resolution.",
    "Folds of one cohort say nothing of another hospital; score an external cohort before use.",
    "Intervals express the sampling of cases, not the choice of a model after seeing results.",
)


def write_run_report(
    target: Path,
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any],
    cases: pd.DataFrame,
    *,
    dropped: Path,
    configuration: Path,
    extra_tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    attention: Figure | None = None,
    comparison: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``report.html`` of a run, an external cohort or a demo.

    Parameters
    ----------
    target
        Folder of the page.
    manifest, metrics
        Content of ``run.json`` and ``metrics.json``.
    cases
        Case-level scores: model, seed, fold, case_id, y_true, probability, threshold.
    dropped, configuration
        The ``dropped.csv`` and ``config.yaml`` of the cohort in question.
    extra_tables, attention
        Shown beside the rest.
    comparison
        Content of ``comparison.json``, where there is one.

    Returns
    -------
    Path
        The page.
    """
    folds = {str(n): fold_scores(p) for n, p in cases.groupby("model", sort=True)}
    pictures = [
        Picture(
            figure=draw_roc(
                {n: [(f.labels, f.probabilities) for f in s] for n, s in folds.items()}
            ),
            caption="ROC curves on test cases: folds thin, their mean thick.",
            alt="ROC curves of " + ", ".join(folds),
        ),
        Picture(
            figure=draw_calibration(
                {
                    n: (
                        np.concatenate([f.labels for f in s]),
                        np.concatenate([f.probabilities for f in s]),
                    )
                    for n, s in folds.items()
                }
            ),
            caption="Calibration on test cases, bins of equal counts, 95 % intervals.",
            alt="calibration curves of " + ", ".join(folds),
        ),
    ]
    pictures.append(_decision_picture(folds))
    if attention is not None:
        pictures.append(
            Picture(
                figure=attention,
                caption="Attention of the fold models on a slide none of them has seen.",
                alt="attention map of one slide",
            )
        )
    report = Report(
        title=f"{manifest['task']} from histology",
        asked=_asked(manifest),
        results=[_result(name, entry) for name, entry in metrics["models"].items()],
        notes=metrics["notes"],
        comparison=_comparison(comparison),
        extra_tables={**(extra_tables or {}), **_sites(manifest)},
        pictures=pictures,
        flow=manifest["counts"],
        dropped=_dropped(dropped),
        folds=manifest["folds"],
        per_fold=[
            {"model": name} | row for name, e in metrics["models"].items() for row in e["per_fold"]
        ],
        configuration=_configuration(configuration),
        provenance=_provenance(manifest),
        limits=_LIMITS,
    )
    write_report(target / "report.html", report)
    return target / "report.html"


def _asked(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    negative, positive = manifest["class_names"]
    proof = manifest.get("proof") or {}
    return [
        ("label", f"{manifest['task']}: {positive} against {negative}"),
        ("input at prediction", "tile embeddings of slides; no RNA"),
        ("models", ", ".join(manifest["models"])),
        ("protocol", proof.get("protocol", "none")),
        *[("verified", statement) for statement in proof.get("statements", ())],
        *[("data", note) for note in manifest["notes"]],
        *[("training", note) for note in manifest.get("training_notes", ())],
    ]


def _sites(manifest: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, Any]]]:
    sites = (manifest.get("proof") or {}).get("sites")
    return {} if not sites else {"Sites and labels": sites["rows"]}


def _result(name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    row = {"model": name, "cases": str(entry["n_cases"]), "fits": str(entry["n_fits"])}
    for key in METRICS:
        row[key] = _with_interval(entry["mean_over_folds"][key])
    again = entry.get("auroc_if_trained_again")
    if again is not None:
        row["auroc if trained again"] = _with_interval(again)
    for key in ("slope", "intercept"):
        row[f"calibration {key} (pooled)"] = _with_interval(entry["pooled"][f"calibration_{key}"])
    return row


def _comparison(content: Mapping[str, Any] | None) -> Comparison | None:
    if content is None:
        return None
    return Comparison(
        rows=content["table"],
        about=content["about"],
        may_claim=content["may_claim"],
        may_not_claim=content["may_not_claim"],
    )


def _decision_picture(folds: Mapping[str, Sequence[FoldScores]]) -> Picture:
    curves = {
        name: decision_curve(
            np.concatenate([f.labels for f in s]), np.concatenate([f.probabilities for f in s])
        )
        for name, s in folds.items()
    }
    first = next(iter(curves.values()))
    return Picture(
        figure=draw_decision_curves(
            first.thresholds,
            {name: curve.net_benefit for name, curve in curves.items()},
            treat_all=first.treat_all,
        ),
        caption="Decision curves on test cases: net benefit of acting at or above a threshold "
        f"probability, {RANGE[0]:.0%} to {RANGE[1]:.0%}, against acting on all and on none.",
        alt="decision curves of " + ", ".join(folds),
    )


def _with_interval(found: Mapping[str, float | None]) -> str:
    value, low, high = found["value"], found["low"], found["high"]
    if value is None or np.isnan(value):
        return "not defined"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _dropped(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as stream:
        reasons = Counter((r["kind"], r["code"], r["reason"]) for r in csv.DictReader(stream))
    rows = [{"what": k, "code": c, "reason": r, "n": n} for (k, c, r), n in reasons.items()]
    return sorted(rows, key=lambda row: -int(row["n"]))[:30]


def _configuration(path: Path) -> str:
    """Show the configuration with file names instead of this machine's paths."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for block, keys in PATH_KEYS.items():
        for key in keys:
            if key in content.get(block, {}):
                content[block][key] = _file_names(content[block][key])
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _file_names(value: Any) -> Any:
    if isinstance(value, list):
        return [_file_names(v) for v in value]
    return Path(value).name if isinstance(value, str) else value


def _provenance(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine = ", ".join(f"{k} {v}" for k, v in sorted(manifest["machine"].items()))
    return [
        ("started", manifest["started"]),
        ("cohort digest", manifest["cohort"]),
        ("settings digest", manifest["settings"]),
        ("software", machine),
    ]
