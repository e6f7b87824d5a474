"""What an arm's predictions come to: figures with spread and interval, tests, and their source."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from momkd.errors import DataError, Problem, Problems
from momkd.evaluation.comparison import Comparison, compare_models
from momkd.evaluation.summary import FoldScores, fold_metrics, summarise_folds
from momkd.storage import digest_file
from momkd.workflows.evaluate import require_all_models
from momkd.workflows.reproduction.arms import Arm, Plan
from momkd.workflows.run_folder import read_predictions, read_run, read_side_ratio
from momkd.workflows.scored_cases import average_slides, fold_scores

SHOWN = ("auroc", "accuracy", "majority_rate", "macro_f1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A mean over folds, its SD over folds as papers print it, and its interval over cases."""

    value: float
    sd: float
    low: float
    high: float

    def with_sd(self) -> str:
        """Write ``79.6 ± 2.1``, in percent; the mean alone where there is no spread."""
        return percent(self.value) + ("" if math.isnan(self.sd) else f" ± {percent(self.sd)}")

    def interval(self) -> str:
        """Write ``[75.0, 83.9]``, in percent; blank where not defined."""
        if math.isnan(self.low):
            return ""
        return f"[{percent(self.low)}, {percent(self.high)}]"

    def with_interval(self) -> str:
        """Write ``79.6 [75.0, 83.9]``."""
        return f"{percent(self.value)} {self.interval()}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """An arm's test predictions, and where they lie.

    Parameters
    ----------
    folds
        One entry a seed and fold.
    test_over_train
        Cases tested over cases trained on; None for an external cohort.
    source
        ``arm``, ``model``, ``run``, ``predictions`` (relative to the output folder) and
        ``predictions_sha256``.
    cohort
        Digest of the cohort they are of.
    """

    arm: Arm
    folds: Sequence[FoldScores]
    test_over_train: float | None
    source: Mapping[str, str]
    cohort: str

    @property
    def n_cases(self) -> int:
        """How many cases were tested."""
        return len({case for fold in self.folds for case in fold.case_ids})

    @property
    def n_positive(self) -> int:
        """How many of them are positive."""
        labels = {
            case: label
            for fold in self.folds
            for case, label in zip(fold.case_ids, fold.labels.tolist(), strict=True)
        }
        return sum(labels.values())


def read_scores(plan: Plan, arm: Arm) -> Scores:
    """Read an arm's out-of-fold predictions, of the seeds that were asked for.

    Raises
    ------
    DataError
        P13, P14 no run, or no predictions.
    """
    folder = plan.run_of(arm)
    manifest = read_run(folder)
    table = read_predictions(folder)
    require_all_models(folder, manifest, table)
    table = table[table["model"] == arm.choice.label]
    if plan.settings.folds.file is None:
        first = plan.settings.folds.seed
        table = table[table["seed"].between(first, first + plan.seeds - 1)]
    return scores_of_table(
        plan,
        arm,
        table,
        folder / "predictions.csv",
        cohort=manifest["cohort"],
        test_over_train=read_side_ratio(folder),
    )


def scores_of_table(
    plan: Plan,
    arm: Arm,
    table: pd.DataFrame,
    path: Path,
    *,
    cohort: str = "",
    test_over_train: float | None = None,
) -> Scores:
    """Bring one arm's predictions to the case, with the place that they were read from."""
    folds = fold_scores(average_slides(table))
    if not folds:
        what = f"holds no test predictions of {arm.choice.label}"
        raise DataError.of("P14", str(path), what, "delete this run folder and run again")
    source = {
        "arm": arm.name,
        "model": arm.choice.label,
        "run": plan.run_of(arm).relative_to(plan.folder).as_posix(),
        "predictions": path.relative_to(plan.folder).as_posix(),
        "predictions_sha256": digest_file(path),
    }
    return Scores(
        arm=arm, folds=folds, test_over_train=test_over_train, source=source, cohort=cohort
    )


def require_alike(scores: Sequence[Scores]) -> None:
    """Turn away arms that were not tested on the same cases in the same folds.

    Raises
    ------
    DataError
        M01 another cohort or other labels, M02 other folds, of each arm that differs from the
        first.
    """
    problems = Problems()
    first = scores[0]
    for one in scores[1:]:
        remedy = f"delete {one.source['run']} and run again"
        if one.cohort != first.cohort:
            what = f"was made on another state of the cohort than {first.arm.name}"
            problems.add(Problem(code="M01", where=one.source["run"], what=what, remedy=remedy))
        elif _places(one.folds) != _places(first.folds):
            what = f"was not tested on the folds of {first.arm.name}"
            problems.add(Problem(code="M02", where=one.source["run"], what=what, remedy=remedy))
    problems.refuse(DataError)


def measure(folds: Sequence[FoldScores]) -> dict[str, Measure]:
    """Give the figures of :data:`SHOWN`."""
    intervals = summarise_folds(folds)
    single = [fold_metrics(fold) for fold in folds]
    found = {}
    for name in SHOWN:
        values = np.array([row[name] for row in single])
        known = values[~np.isnan(values)]
        spread = float(known.std(ddof=1)) if len(known) > 1 else math.nan
        of = intervals[name]
        found[name] = Measure(value=of.value, sd=spread, low=of.low, high=of.high)
    return found


def compare_scores(scores: Mapping[str, Scores], method: str) -> Comparison:
    """Test the one called ``method`` against the others, as ``momkd compare`` does."""
    known = [s.test_over_train for s in scores.values()]
    ratios = [ratio for ratio in known if ratio is not None]
    return compare_models(
        {name: s.folds for name, s in scores.items()},
        method=method,
        test_over_train=max(ratios) if ratios else None,
    )


def record(scores: Scores, figures: Mapping[str, Measure]) -> dict[str, Any]:
    """Give figures and source as one row of a CSV, fractions in full precision."""
    row: dict[str, Any] = {
        **scores.source,
        "n_cases": scores.n_cases,
        "n_positive": scores.n_positive,
        "n_fits": len(scores.folds) if scores.test_over_train is not None else None,
    }
    for name, found in figures.items():
        row |= {name: found.value, f"{name}_sd": found.sd}
        row |= {f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def percent(value: float) -> str:
    """Write a share in percent with one decimal, as papers print it."""
    return "n/a" if math.isnan(value) else f"{100 * value:.1f}"


def _places(folds: Sequence[FoldScores]) -> list[tuple[Any, ...]]:
    return sorted(
        (f.seed, f.fold, tuple(sorted(zip(f.case_ids, f.labels.tolist(), strict=True))))
        for f in folds
    )
