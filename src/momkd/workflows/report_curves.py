"""The curves of a report: drawn from the scores and figures that evaluation made."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from momkd.evaluation.curves import GRID, calibration_bins, mean_precision, mean_roc
from momkd.evaluation.decision import RANGE
from momkd.evaluation.summary import FoldScores
from momkd.reporting.charts import Axis, Line, Weight, draw_intervals, draw_lines
from momkd.reporting.page import Chart, Charts, Heading, Section, Words
from momkd.workflows.scored_cases import fold_scores, scores_of

_UNIT_LINE = (0.0, 1.0)


def auroc_chart(models: Mapping[str, Any]) -> Chart:
    """Draw the AUROC of every model with its interval."""
    rows = [(name, *_numbers(entry["mean_over_folds"]["auroc"])) for name, entry in models.items()]
    return Chart(
        svg=draw_intervals(
            rows,
            axis=_interval_axis(rows),
            mark=0.5,
            alt="AUROC with 95 % interval: " + "; ".join(map(_say_row, rows)),
        ),
        caption="AUROC of each model on tested cases, 95 % interval over cases; the dotted line at "
        "0.5 is a coin.",
    )


def curves_section(metrics: Mapping[str, Any], cases: pd.DataFrame, first: str) -> Section:
    """Draw ROC, precision-recall, decision and calibration curves.

    Parameters
    ----------
    first
        The model that is drawn strongest.
    """
    parts = {str(name): part for name, part in cases.groupby("model", sort=False)}
    names = [name for name in metrics["models"] if name in parts]
    looks = {name: look for look, name in enumerate(names)}
    folds = {name: fold_scores(parts[name]) for name in names}
    one = cases.drop_duplicates("case_id")["y_true"]
    share = float(one.mean())
    behind = f"{len(one):,} patients, {int(one.sum()):,} positive"
    strength: dict[str, Weight] = {
        name: "strong" if name == first and len(names) > 1 else "even" for name in names
    }
    charts = [
        _roc(metrics, folds, looks, strength, behind),
        _precision(metrics, folds, looks, strength, share),
        _decisions(metrics, looks, strength),
    ]
    repeats = {name: [scores_of(part) for _, part in parts[name].groupby("seed")] for name in names}
    return Section(
        title="Curves",
        parts=[
            Words(
                lines=[
                    f"Behind all curves: {behind}. A curve has no interval of its own here; that "
                    "of its area stands in the tables above."
                ]
            ),
            Charts(charts=charts, legend=list(looks.items())),
            Heading(text="Calibration"),
            Charts(charts=[_calibration(name, repeats[name], looks[name]) for name in names]),
        ],
    )


def _roc(
    metrics: Mapping[str, Any],
    folds: Mapping[str, Sequence[FoldScores]],
    looks: Mapping[str, int],
    strength: Mapping[str, Weight],
    behind: str,
) -> Chart:
    lines = [Line(x=_UNIT_LINE, y=_UNIT_LINE)]
    for name, of_model in folds.items():
        curve = mean_roc(of_model)
        if curve is not None:
            lines.append(_curve(GRID, curve, looks[name], strength[name]))
    return Chart(
        svg=draw_lines(
            lines,
            x=Axis(label="1 - specificity (share of negatives called positive)", low=0.0, high=1.0),
            y=Axis(label="sensitivity", low=0.0, high=1.0),
            alt=f"ROC curves of {behind}; area under each: " + _say_areas(metrics, "auroc"),
        ),
        caption="ROC curves: at every possible threshold, how many positives are found and how "
        "many negatives are called positive. Averaged over folds; dotted: a coin.",
    )


def _precision(
    metrics: Mapping[str, Any],
    folds: Mapping[str, Sequence[FoldScores]],
    looks: Mapping[str, int],
    strength: Mapping[str, Weight],
    share: float,
) -> Chart:
    lines = [Line(x=_UNIT_LINE, y=[share, share])]
    for name, of_model in folds.items():
        curve = mean_precision(of_model)
        if curve is not None:
            lines.append(_curve(GRID, curve, looks[name], strength[name]))
    return Chart(
        svg=draw_lines(
            lines,
            x=Axis(label="sensitivity (recall)", low=0.0, high=1.0),
            y=Axis(label="right among those called positive (precision)", low=0.0, high=1.0),
            alt=f"Precision-recall curves, share of positives {share:.3f}, area under each: "
            + _say_areas(metrics, "auprc"),
        ),
        caption="Precision-recall curves, averaged over folds. Dotted: the share of positives, "
        "which a worthless model reaches.",
    )


def _decisions(
    metrics: Mapping[str, Any], looks: Mapping[str, int], strength: Mapping[str, Weight]
) -> Chart:
    curves = {name: metrics["models"][name]["decision_curve"] for name in looks}
    first = next(iter(curves.values()))
    everything = [v for c in curves.values() for v in (*c["net_benefit"], *c["treat_all"])]
    top = max(0.0, *everything)
    floor = -0.25 * top if top > 0 else min(everything)
    lines = [Line(x=first["thresholds"], y=_above(first["treat_all"], floor))]
    lines.append(Line(x=[first["thresholds"][0], first["thresholds"][-1]], y=[0.0, 0.0]))
    for name, curve in curves.items():
        lines.append(
            _curve(
                curve["thresholds"],
                _above(curve["net_benefit"], floor),
                looks[name],
                strength[name],
            )
        )
    ahead = {
        name: sum(
            benefit > max(0.0, everybody)
            for benefit, everybody in zip(c["net_benefit"], c["treat_all"], strict=True)
        )
        for name, c in curves.items()
    }
    told = "; ".join(f"{n} {k} of {len(first['thresholds'])}" for n, k in ahead.items())
    return Chart(
        svg=draw_lines(
            lines,
            x=Axis(label="threshold probability (0 to 1)", low=RANGE[0], high=RANGE[1]),
            y=Axis(
                label="net benefit (true positives a patient)",
                low=floor,
                high=1.1 * top if top > 0 else 0.01,
            ),
            alt="Decision curves; thresholds at which each model is above acting on all and on "
            "none: " + told,
        ),
        caption="Decision curves: net benefit of acting at or above a threshold probability, "
        f"{RANGE[0]:.0%} to {RANGE[1]:.0%}. Dotted: acting on all (falling) and on none (0).",
    )


def _calibration(name: str, repeats: Sequence[FoldScores], look: int) -> Chart:
    bins = calibration_bins(repeats)
    told = "; ".join(
        f"{p:.2f} predicted, {s:.2f} observed"
        for p, s in zip(bins.probability, bins.share, strict=True)
    )
    line = Line(
        x=bins.probability.tolist(),
        y=bins.share.tolist(),
        low=bins.low.tolist(),
        high=bins.high.tolist(),
        look=look,
        marked=True,
    )
    n_cases = len({case for repeat in repeats for case in repeat.case_ids})
    return Chart(
        svg=draw_lines(
            [Line(x=_UNIT_LINE, y=_UNIT_LINE), line],
            x=Axis(label="predicted probability", low=0.0, high=1.0),
            y=Axis(label="observed share positive", low=0.0, high=1.0),
            alt=f"Calibration of {name}: {told}",
            width=250,
            height=220,
        ),
        caption=f"{name}, {n_cases:,} cases: bins of equal counts, 95 % Wilson intervals. "
        "Dotted: as many positives as predicted.",
    )


def _curve(x: Any, y: Any, look: int, weight: Weight) -> Line:
    return Line(x=list(map(float, x)), y=list(map(float, y)), look=look, weight=weight)


def _above(values: Sequence[float], floor: float) -> list[float]:
    """Leave what falls below the picture out of it."""
    return [v if v >= floor else math.nan for v in values]


def _numbers(found: Mapping[str, float | None]) -> tuple[float, float, float]:
    return _or_nan(found["value"]), _or_nan(found["low"]), _or_nan(found["high"])


def _or_nan(value: float | None) -> float:
    # metrics read back from JSON have null where a figure is not defined
    return math.nan if value is None else value


def _interval_axis(rows: Sequence[tuple[str, float, float, float]]) -> Axis:
    known = [v for _, *values in rows for v in values if math.isfinite(v)] or [0.5]
    return Axis(
        label="AUROC",
        low=max(0.0, min(0.5, *known) - 0.03),
        high=min(1.0, max(0.5, *known) + 0.03),
    )


def _say_row(row: tuple[str, float, float, float]) -> str:
    name, value, low, high = row
    if not math.isfinite(value):
        return f"{name} not defined"
    return f"{name} {value:.3f} ({low:.3f} to {high:.3f})"


def _say_areas(metrics: Mapping[str, Any], key: str) -> str:
    return "; ".join(
        _say_row((name, *_numbers(entry["mean_over_folds"][key])))
        for name, entry in metrics["models"].items()
    )
