"""What a run says of how it was evaluated, and of what came out."""

import math
from collections.abc import Mapping
from typing import Any

from momkd.reporting.page import Bounded
from momkd.workflows.guidelines.answers import Answer, Answerer, Found, Gap, figure
from momkd.workflows.guidelines.facts import RunFacts
from momkd.workflows.report_groups import MIN_OF_A_GROUP, site_rows
from momkd.workflows.report_limits import tell_limits
from momkd.workflows.tables import with_interval

_NO_FIGURES = "figures: no model was tested on every fold"
_MEANS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "majority_rate": "majority rate",
    "brier": "Brier score",
}
_CALLS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "sensitivity_at_specificity_90": "sensitivity at specificity 0.90",
    "specificity_at_sensitivity_95": "specificity at sensitivity 0.95",
}
_PROBABILITIES = {"calibration_slope": "slope", "calibration_intercept": "intercept"}


def protocol(run: RunFacts) -> Found:
    """Say how data were divided."""
    found = (run.manifest.get("proof") or {}).get("protocol")
    if not found:
        return Gap(lacks="a protocol of folds")
    tested = run.said("each of", "of ")
    balance = run.said("a test side holds")
    text = "; ".join(s for s in (f"Protocol: {found}", tested, balance) if s)
    return Answer(text=text, where="run.json, proof; folds.csv")


def frozen(run: RunFacts) -> Found:
    """Say what was laid down before anything was tested."""
    if run.protocol is None:
        return Gap(lacks="a protocol that was frozen before the first test")
    told = "; ".join(f"{name}: {value}" for name, value in run.protocol.facts())
    return Answer(text=f"Laid down before anything was trained: {told}", where="protocol.json")


def disjoint(run: RunFacts) -> Found:
    """Say at what level sides are apart."""
    apart = next((s for s in run.statements if "two sides of a fold" in s), "")
    if not apart:
        return Gap(lacks="a proof that the sides of a fold share nobody")
    text = f"Disjoint by patient: {apart}; all slides of a case stand on its side"
    return Answer(text=text, where="run.json, proof; leakage.md")


def clusters(run: RunFacts) -> Found:
    """Say what is known of sites."""
    told = [
        s
        for s in (
            run.said("no site", "sites cross", "sites are unknown"),
            run.said("recognising the site", "warning: sites"),
            run.said("sites:"),
        )
        if s
    ]
    if not told or told[0].startswith("sites are unknown"):
        return Gap(lacks="sites: whether hospitals differ cannot be said")
    return Answer(text="; ".join(told), where="run.json, proof; report: Sites and labels")


def measures(run: RunFacts) -> Found:
    """Say what was measured."""
    if run.metrics is None:
        return Gap(lacks=_NO_FIGURES)
    text = (
        "Discrimination (AUROC, AUPRC), calls at the threshold from validation (sensitivity, "
        "specificity, accuracy beside the majority rate, macro F1), probabilities (Brier score, "
        "calibration slope and intercept), net benefit; curves of ROC, precision and recall, "
        "calibration and decision"
    )
    return Answer(text=text, where="metrics.json; report: Results, Curves; docs/statistics.md")


def uncertainty(run: RunFacts) -> Found:
    """Say how intervals are made."""
    if run.metrics is None:
        return Gap(lacks=_NO_FIGURES)
    return Answer(text="; ".join(map(str, run.metrics["notes"])), where="metrics.json, notes")


def comparison(run: RunFacts) -> Found:
    """Say how models were compared."""
    if run.comparison is None:
        return Gap(lacks="a paired comparison (momkd compare RUN makes one)")
    text = "; ".join(map(str, run.comparison.get("about", ())))
    return Answer(text=text, where="comparison.json")


def claims(run: RunFacts) -> Found:
    """Say what may be said of differences."""
    if run.comparison is None:
        return Gap(lacks="a paired comparison: no model may be called better than another")
    may = "; ".join(map(str, run.comparison.get("may_claim", ()))) or "nothing"
    may_not = "; ".join(map(str, run.comparison.get("may_not_claim", ()))) or "nothing"
    return Answer(text=f"May be claimed: {may}. May not: {may_not}", where="comparison.json")


def headline(run: RunFacts) -> Found:
    """Give the first figure with its patients."""
    if run.metrics is None:
        return Gap(lacks=_NO_FIGURES)
    name, entry = next(iter(_models(run).items()))
    text = (
        f"{run.manifest['task']} by {name}, cross-validated: AUROC "
        f"{figure(entry['mean_over_folds']['auroc'])}, {entry['n_cases']} patients tested"
    )
    return Answer(text=text, where="metrics.json")


def performance(run: RunFacts) -> Found:
    """Give figures with intervals, a model after the other."""
    if run.metrics is None:
        return Gap(lacks=_NO_FIGURES)
    parts = [
        f"{name} ({entry['n_cases']} patients, {entry['n_fits']} fits): "
        + _figures(entry["mean_over_folds"], _MEANS)
        for name, entry in _models(run).items()
    ]
    text = f"Mean over folds [95 % interval over patients]. {'. '.join(parts)}"
    return Answer(text=text, where="metrics.json; report: Results")


def diagnostic(run: RunFacts) -> Found:
    """Give sensitivity and specificity."""
    if run.metrics is None:
        return Gap(lacks=_NO_FIGURES)
    parts = [
        f"{name}: {_figures(entry['mean_over_folds'], _CALLS)}"
        for name, entry in _models(run).items()
    ]
    return Answer(text=". ".join(parts), where="metrics.json; report: Results")


def calibration_found(run: RunFacts) -> Found:
    """Give slope and intercept."""
    if run.metrics is None:
        return Gap(lacks=_NO_FIGURES)
    parts = [
        f"{name}: {_figures(entry['pooled'], _PROBABILITIES)}"
        for name, entry in _models(run).items()
    ]
    text = f"Calibration, all test predictions together. {'. '.join(parts)}"
    return Answer(text=text, where="metrics.json, pooled; report: Curves")


def performance_by_site(run: RunFacts) -> Found:
    """Give the AUROC of large sites."""
    if run.cases is None or run.cohort is None:
        return Gap(lacks="test predictions" if run.cases is None else "cohort.csv")
    site_of = dict(zip(run.cohort["case_id"], run.cohort["site"], strict=True))
    parts = []
    for row in site_rows(run.cases, site_of):
        areas = [f"{m} {_bounded(found)}" for m, found in row.items() if isinstance(found, Bounded)]
        said = f"{row['site']} ({row['cases']} patients, {row['positive cases']} positive)"
        parts.append(f"{said}: {', '.join(areas)}")
    if not parts:
        return Gap(lacks="sites: performance by hospital cannot be told")
    text = f"AUROC by site, sites with at least {MIN_OF_A_GROUP} patients: {'; '.join(parts)}"
    return Answer(text=text, where="report: Sites")


def failures(run: RunFacts) -> Found:
    """Say how many were called wrongly, and which way."""
    if run.cases is None:
        return Gap(lacks="test predictions")
    _, positive = run.manifest["class_names"]
    parts = []
    for name, part in run.cases.groupby("model", sort=False):
        called = part["probability"] >= part["threshold"]
        missed = int((~called & (part["y_true"] == 1)).sum())
        false = int((called & (part["y_true"] == 0)).sum())
        parts.append(
            f"{name}: of {len(part)} predictions {missed} missed a {positive} and {false} called "
            f"one that was not"
        )
    return Answer(text="; ".join(parts), where="predictions.csv")


def all_analysed(run: RunFacts) -> Found:
    """Say whether everybody with a slide was tested."""
    tested = run.said("each of", "of ", "nobody is tested")
    if not tested:
        return Gap(lacks="a statement of who was tested")
    return Answer(text=tested, where="run.json, proof")


def robustness(run: RunFacts) -> Found:
    """Say what was varied."""
    controls = [str(m) for m in run.manifest["models"] if "+" in str(m)]
    seeds = {row["seed"] for row in run.manifest["folds"]}
    parts = []
    if controls:
        parts.append(f"controls with changed RNA: {', '.join(controls)}")
    if len(seeds) > 1:
        parts.append(f"{len(seeds)} repeats with other splits and starts")
    if not parts:
        return Gap(lacks="controls (--controls) and repeats (--seeds)")
    return Answer(text="; ".join(parts), where="metrics.json, per_fold")


def explanation(run: RunFacts) -> Found:
    """Say what shows what was weighed."""
    if not run.n_heatmaps:
        return Gap(lacks="heat maps (momkd heatmap makes them)")
    text = (
        f"{run.n_heatmaps} maps of attention or evidence over slides; attention shows what was "
        "weighed, not why"
    )
    return Answer(text=text, where="*heatmaps in the run folder; report: Pictures")


def external(run: RunFacts) -> Found:
    """Give figures in other cohorts."""
    if not run.external:
        return Gap(lacks="an external cohort (momkd evaluate RUN --external scores one)")
    parts = []
    for name, metrics in run.external.items():
        for model, entry in metrics.get("models", {}).items():
            area = figure(entry["mean_over_folds"]["auroc"])
            parts.append(f"{name}, {model}: AUROC {area}, {entry['n_cases']} patients")
    return Answer(text="; ".join(parts), where="external-*/metrics.json")


def differences(run: RunFacts) -> Found:
    """Say whether data of development and evaluation differ."""
    if not run.has_tests:
        return Gap(lacks="a test side")
    text = (
        "Folds are of one cohort: setting, eligibility, label and inputs are the same for training "
        "and test"
    )
    return Answer(text=text, where="run.json, proof")


def fairness(run: RunFacts) -> Found:
    """Say what was examined of groups of patients."""
    return Gap(lacks="groups of patients: performance by age, sex or ancestry was not examined")


def limitations(run: RunFacts) -> Found:
    """Say what the figures do not show."""
    text = " ".join(f"{line.rstrip('.')}." for line in tell_limits(run.manifest, run.metrics))
    return Answer(text=text, where="report: Limits")


def _models(run: RunFacts) -> dict[str, Any]:
    """Give the figures of each model in the order of the run, the method named beforehand first."""
    scored = {} if run.metrics is None else run.metrics["models"]
    method = (run.comparison or {}).get("method")
    names = dict.fromkeys((method, *map(str, run.manifest["models"]), *scored))
    return {name: scored[name] for name in names if name in scored}


def _bounded(found: Bounded) -> str:
    if found.value is None or math.isnan(found.value):
        return f"not defined ({found.why})" if found.why else "not defined"
    return with_interval(found.value, found.low, found.high)


def _figures(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    told = [f"{name} {figure(found[key])}" for key, name in names.items() if key in found]
    return ", ".join(told)


ANSWERS: dict[str, Answerer] = {
    one.__name__: one
    for one in (
        *(
            protocol,
            frozen,
            disjoint,
            clusters,
            measures,
            uncertainty,
            comparison,
            claims,
            headline,
        ),
        *(performance, diagnostic, calibration_found, performance_by_site, failures),
        *(all_analysed, robustness, explanation, external, differences, fairness, limitations),
    )
}
