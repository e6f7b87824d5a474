"""The part of a report about figures: how well each model does, and what may be said of it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from momkd.evaluation.claims import format_p, metric_words
from momkd.evaluation.summary import METRICS
from momkd.reporting.page import Bounded, Heading, Row, Section, Span, Table, Words
from momkd.reporting.words import sentence
from momkd.workflows.report_curves import auroc_chart

_APART = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
}
_POINTS = {
    "sensitivity_at_specificity_90": "sensitivity at specificity 0.90",
    "specificity_at_sensitivity_95": "specificity at sensitivity 0.95",
}
_CALLS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "majority_rate": "majority rate",
    "macro_f1": "macro F1",
}
# by name: figures read back from a file do not stand in the order in which they were made
_OF_A_FOLD = ("seed", "fold", "n", "n_positive", "threshold", *METRICS)


def scores_section(metrics: Mapping[str, Any], class_names: Sequence[str]) -> Section:
    """Tell the figures of every model, with 95 % intervals."""
    models = metrics["models"]
    shared = _shared_counts(models)
    return Section(
        title="Results",
        parts=[
            Words(lines=[*map(sentence, metrics["notes"]), *_tested(models, class_names[-1])]),
            auroc_chart(models),
            Table(
                caption="How well the classes are told apart (95 % intervals over cases; AUPRC is "
                "to be read beside the share of positives)",
                rows=[_apart(name, entry) for name, entry in models.items()],
            ),
            Table(
                caption=f"Calls at the threshold chosen on validation ({class_names[-1]} at or "
                f"above it){shared}; accuracy is to be read beside the majority rate",
                rows=[_calls(name, entry, shared) for name, entry in models.items()],
            ),
            Table(
                caption="Two points of each ROC curve, read off the tested cases: they describe "
                f"the curve, and no threshold that was set beforehand{shared}",
                rows=[_points(name, entry, shared) for name, entry in models.items()],
            ),
            Table(
                caption="Whether the probabilities can be read as such (slope 1 and intercept 0 "
                "are right; Brier score: lower is better)",
                rows=[_probabilities(name, entry) for name, entry in models.items()],
            ),
            Table(
                caption="Scores of every fold, without intervals: they show how far folds differ",
                rows=[
                    {"model": name} | {key: row[key] for key in _OF_A_FOLD}
                    for name, entry in models.items()
                    for row in entry["per_fold"]
                ],
                headings={"n": "cases", "n_positive": "positive cases", "brier": "Brier score"}
                | _APART
                | _POINTS
                | _CALLS,
                folded=True,
            ),
        ],
    )


def comparison_section(content: Mapping[str, Any] | None, n_models: int) -> Section | None:
    """Tell what ``momkd compare`` found, or that nobody asked; None where there is one model."""
    title = "Paired comparison"
    if content is None:
        if n_models < 2:
            return None
        line = (
            "No paired comparison was made of these predictions. Until momkd compare RUN has been "
            "run with a method named beforehand, no model may be called better than another: "
            "intervals that overlap or do not are no test."
        )
        return Section(title=title, parts=[Words(lines=[line])])
    metric = metric_words(str(content["metric"]))
    return Section(
        title=title,
        parts=[
            Table(
                caption="One method, named before results were seen, against each other model",
                rows=[_pair(pair, str(content["method"]), metric) for pair in content["pairs"]],
            ),
            Words(lines=[sentence(line) for line in content["about"]]),
            Heading(text="What may be claimed"),
            Words(lines=content["may_claim"], is_list=True),
            Heading(text="What may not be claimed"),
            Words(lines=content["may_not_claim"], is_list=True),
        ],
    )


def _pair(pair: Mapping[str, Any], method: str, metric: str) -> Row:
    """Give one comparison with numbers that a column can be sorted by."""
    low, high = pair["bootstrap_low"], pair["bootstrap_high"]
    row = {
        "against": pair["other"],
        f"{metric} of {method}": pair["score"],
        f"{metric} of the other": pair["score_other"],
        "difference (95 % interval)": Bounded(
            value=pair["difference"], low=pair["low"], high=pair["high"], why=pair["why_undefined"]
        ),
        "p": _p(pair["p"]),
        "Holm p": _p(pair["p_holm"]),
        "P(equal), 0 to 1": pair["p_within_rope"],
        "detectable": pair["minimum_detectable"],
        "bootstrap interval": None if None in (low, high) else Span(low=low, high=high),
    }
    if "naive_p" in pair:
        row["naive p (warning)"] = _p(pair["naive_p"])
    return row


def _p(value: float | None) -> str | None:
    return None if value is None or math.isnan(value) else format_p(value)


def cases_table(cases: pd.DataFrame, class_names: Sequence[str], first: str, most: int) -> Table:
    """List the tested cases that the first model gets most wrong, at most so many."""
    mean = cases.pivot_table(index="case_id", columns="model", values="probability", sort=False)
    truth = cases.drop_duplicates("case_id").set_index("case_id")["y_true"]
    wrong = (mean[first] - truth.reindex(mean.index)).abs()
    order = wrong.sort_values(ascending=False, kind="stable").index[:most]
    columns = [first, *[name for name in mean.columns if name != first]]
    rows = [
        {"case": case, "label": class_names[int(truth[case])]}
        | {str(name): float(mean.loc[case, name]) for name in columns}
        for case in order
    ]
    return Table(
        caption=f"The {len(rows)} of {len(mean)} tested cases that {first} gets most wrong: "
        f"probability of {class_names[-1]}, mean over repeats (all cases: predictions.csv)",
        rows=rows,
        folded=True,
    )


def bounded(found: Mapping[str, float | None]) -> Bounded:
    """Bring an interval of ``metrics.json`` into a cell."""
    return Bounded(value=found["value"], low=found["low"], high=found["high"])


def _apart(name: str, entry: Mapping[str, Any]) -> Row:
    mean = entry["mean_over_folds"]
    row: dict[str, Any] = {
        "model": name,
        "cases": entry["n_cases"],
        "positive cases": _n_positive(entry),
        "trainings": entry["n_fits"],
    }
    again = entry.get("auroc_if_trained_again")
    for key, heading in _APART.items():
        row[heading] = bounded(mean[key])
        if key == "auroc" and again is not None:
            row["AUROC if trained again"] = _within_0_and_1(again)
        if key == "auprc":
            row["share of positives"] = _share_positive(entry["per_fold"])
    return row


def _n_positive(entry: Mapping[str, Any]) -> int:
    """Count positive cases once, however often they were scored; per fold they are counts."""
    by_seed: Counter[int] = Counter()
    for row in entry["per_fold"]:
        by_seed[row["seed"]] += int(row["n_positive"])
    return max(by_seed.values(), default=0)


def _denominators(entry: Mapping[str, Any]) -> dict[str, Any]:
    positive = _n_positive(entry)
    return {"positive cases": positive, "negative cases": entry["n_cases"] - positive}


def _tested(models: Mapping[str, Any], positive: str) -> list[str]:
    """Say how many patients stand behind the figures; each table says it of each model."""
    counts = {(entry["n_cases"], _n_positive(entry)) for entry in models.values()}
    return [f"Tested: {n:,} patients, {k:,} of them {positive}." for n, k in sorted(counts)]


def _shared_counts(models: Mapping[str, Any]) -> str:
    """Say what shares are of, where it is the same for all models; else each row says it."""
    counts = {(entry["n_cases"], _n_positive(entry)) for entry in models.values()}
    if len(counts) != 1:
        return ""
    ((n, k),) = counts
    return f"; sensitivity is of {k:,} positive, specificity of {n - k:,} negative patients"


def _within_0_and_1(found: Mapping[str, float | None]) -> Bounded:
    """Cut an interval by the t distribution where an area ends."""

    def cut(value: float | None) -> float | None:
        return None if value is None else float(np.clip(value, 0.0, 1.0))

    return Bounded(value=found["value"], low=cut(found["low"]), high=cut(found["high"]))


def _share_positive(per_fold: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([row["n_positive"] / row["n"] for row in per_fold]))


def _calls(name: str, entry: Mapping[str, Any], shared: str) -> Row:
    row: dict[str, Any] = {"model": name} | ({} if shared else _denominators(entry))
    for key, heading in _CALLS.items():
        row[heading] = bounded(entry["mean_over_folds"][key])
    cuts = [fold["threshold"] for fold in entry["per_fold"]]
    row["thresholds, least to most"] = Span(low=min(cuts), high=max(cuts))
    return row


def _points(name: str, entry: Mapping[str, Any], shared: str) -> Row:
    mean = entry["mean_over_folds"]
    figures = {heading: bounded(mean[key]) for key, heading in _POINTS.items()}
    return {"model": name} | ({} if shared else _denominators(entry)) | figures


def _probabilities(name: str, entry: Mapping[str, Any]) -> Row:
    pooled = entry["pooled"]
    return {
        "model": name,
        "cases": entry["n_cases"],
        "Brier score": bounded(entry["mean_over_folds"]["brier"]),
        "calibration slope (pooled)": bounded(pooled["calibration_slope"]),
        "calibration intercept (pooled)": bounded(pooled["calibration_intercept"]),
    }
