"""``momkd compare``: paired tests that hold, and what may be claimed of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from momkd.errors import ConfigError, DataError, Problem, Problems
from momkd.evaluation.bayesian import ROPE
from momkd.evaluation.claims import Claims, state_claims
from momkd.evaluation.comparison import COMPARABLE, Comparison, compare_models
from momkd.evaluation.summary import FoldScores
from momkd.workflows.comparison_page import (
    NAIVE_WARNING,
    comparison_rows,
    describe_comparison,
    write_comparison,
)
from momkd.workflows.evaluate import refresh_report, require_all_models, require_tests
from momkd.workflows.frozen_protocol import FrozenProtocol
from momkd.workflows.model_label import label_in_run
from momkd.workflows.prediction_tables import read_prediction_table
from momkd.workflows.prenamed import tell_of_protocols
from momkd.workflows.run_folder import read_predictions, read_run, read_side_ratio
from momkd.workflows.scored_cases import average_slides, fold_scores

# what ranks alone decide, so that any score will do
_OF_RANKS = (
    "auroc",
    "auprc",
    "sensitivity_at_specificity_90",
    "specificity_at_sensitivity_95",
)

Scored = dict[str, list[FoldScores]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonReport:
    """A comparison, what it allows to be said, and the folder it was written to, if any."""

    comparison: Comparison
    claims: Claims
    rows: list[dict[str, str]]
    about: list[str]
    folder: Path | None


def compare(
    *paths: Path | str,
    predictions: bool = False,
    method: str | None = None,
    metric: str = "auroc",
    models: str | None = None,
    rope: float = ROPE,
    show_naive: bool = False,
    output: Path | str | None = None,
) -> ComparisonReport:
    """Compare a pre-named method with every other model of one run or of several.

    Parameters
    ----------
    paths
        Run folders; with ``predictions``, tables of predictions from elsewhere (see
        :func:`~momkd.workflows.prediction_tables.read_prediction_table`).
    method
        The model to be tested, named before results were seen; default the one that the protocol
        of the run names, else ``momkd``, or the first. With several runs a model is called
        ``RUN/MODEL``; ``MODEL`` alone will do where it is unique.
    metric
        ``auroc`` or another of :data:`~momkd.evaluation.comparison.COMPARABLE`.
    models
        ``a,b,c``: only these; default all.
    rope
        Differences smaller than this are of no practical meaning.
    show_naive
        Show the uncorrected paired t beside, as a warning.
    output
        Folder for ``comparison.json`` and ``comparison.csv``; default the first run, whose report
        then shows them. Tables are compared without writing unless it is given.

    Raises
    ------
    DataError
        P13, P14, P17 no run, no predictions, no such table; M01 other cases or labels, M02 other
        folds (tables may have other folds), M04 fewer than two models.
    ConfigError
        M03 a model that is not there, or a name that fits two; M05 an unknown metric, or one that
        scores outside 0 to 1 do not have.
    IntegrityError
        K16, K17 a run is no longer what its protocol laid down.
    """
    _require_metric(metric)
    if not 0 < rope < 1:
        raise ConfigError.of("M05", "--rope", f"got {rope}, wanted a number between 0 and 1")
    given = [Path(p) for p in paths]
    frozen: list[FrozenProtocol | None] = []
    if predictions:
        scored = _read_tables(given, metric)
    else:
        scored, frozen = _read_runs(given)
    chosen = _choose(scored, models)
    if len(chosen) < 2:
        what = f"got {len(chosen)} model ({', '.join(chosen) or 'none'}), wanted two or more"
        raise DataError.of("M04", ", ".join(map(str, given)), what, "give another run or table")
    named = _named(chosen, method, [of.method for of in frozen if of is not None])
    _require_same_cases(chosen, named)
    unlike = _other_folds(chosen, named)
    if predictions:
        ratio, notes = _ratio_of_tables(chosen[named], unlike)
    else:
        Problems(unlike).refuse(DataError)
        ratio = max(read_side_ratio(p) for p in given)
        notes = [f"cases tested over cases trained on: {ratio:.2f}"]
    found = compare_models(chosen, method=named, metric=metric, test_over_train=ratio, rope=rope)
    said = tell_of_protocols(frozen, given if frozen else (), found)
    claims = state_claims(found, named_beforehand=said.named_beforehand)
    notes += said.notes
    if method is None and not said.named_beforehand:
        notes.append(f"--method was not given: {named} was taken")
    if show_naive:
        notes.append(NAIVE_WARNING)
    folder = Path(output) if output is not None else None if predictions else given[0]
    if folder is not None:
        is_run = not predictions and folder in given
        own = folder / "predictions.csv" if is_run else None
        write_comparison(folder, found, claims, notes, predictions=own, show_naive=show_naive)
        if is_run:
            refresh_report(folder)
    return ComparisonReport(
        comparison=found,
        claims=claims,
        rows=comparison_rows(found, show_naive=show_naive),
        about=[*describe_comparison(found), *notes],
        folder=folder,
    )


def _require_metric(metric: str) -> None:
    if metric not in COMPARABLE:
        what = f"got {metric!r}, wanted one of {', '.join(COMPARABLE)}"
        raise ConfigError.of("M05", "--metric", what)


def _read_runs(folders: Sequence[Path]) -> tuple[Scored, list[FrozenProtocol | None]]:
    """Read runs and their protocols; with several, every model gets a name of its own."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    scored: Scored = {}
    frozen = []
    for name, folder in zip(names, folders, strict=True):
        manifest = read_run(folder)
        table = require_tests(folder, read_predictions(folder))
        frozen.append(require_all_models(folder, manifest, table))
        scored |= _by_model(table, f"{name}/" if len(folders) > 1 else "")
    return scored, frozen


def _read_tables(paths: Sequence[Path], metric: str) -> Scored:
    scored: Scored = {}
    for path in paths:
        table = read_prediction_table(path, any_score=metric in _OF_RANKS)
        for name, folds in _by_model(table, "").items():
            label = f"{path.stem}/{name}" if name in scored else name
            if label in scored:
                what = f"two of the tables hold a model {name}"
                raise ConfigError.of("M03", str(path), what, "name it in a column model")
            scored[label] = folds
    return scored


def _by_model(table: pd.DataFrame, prefix: str) -> Scored:
    parts = average_slides(table).groupby("model", sort=False)
    return {f"{prefix}{name}": fold_scores(part) for name, part in parts}


def _choose(scored: Scored, models: str | None) -> Scored:
    if models is None:
        return scored
    wanted = [name.strip() for name in models.split(",") if name.strip()]
    return {label: scored[label] for label in (_find(scored, w, "--model") for w in wanted)}


def _named(scored: Scored, method: str | None, beforehand: Sequence[str]) -> str:
    """Give the method asked for, else the one that the protocols name, else ours or the first."""
    if method is not None:
        return _find(scored, method, "--method")
    for name in beforehand:
        fits = [label for label in scored if label.split("/")[-1] == name]
        if len(fits) == 1:
            return fits[0]
    ours = [label for label in scored if label.split("/")[-1] == "momkd"]
    return ours[0] if ours else next(iter(scored))


def _find(scored: Scored, name: str, option: str) -> str:
    if name in scored:
        return name
    own = {label: label.split("/")[-1] for label in scored}
    called = label_in_run(name, [*scored, *own.values()])
    fits = [label for label in scored if called in (label, own[label])]
    if len(fits) == 1:
        return fits[0]
    what = f"{name!r} fits {', '.join(fits)}" if fits else f"no model {name!r}"
    raise ConfigError.of("M03", option, what, f"there are {', '.join(scored)}")


def _require_same_cases(scored: Scored, named: str) -> None:
    problems = Problems()
    ours = _labels(scored[named])
    for name, folds in scored.items():
        theirs = _labels(folds)
        only, lacking = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
        if only or lacking:
            first = (only or lacking)[0]
            what = (
                f"scores other cases than {named}: {len(lacking)} missing, {len(only)} more "
                f"(first: {first})"
            )
            remedy = "score both on the same cases"
            problems.add(Problem(code="M01", where=name, what=what, remedy=remedy))
            continue
        apart = [c for c in sorted(ours) if ours[c] != theirs[c]]
        if apart:
            what = f"{len(apart)} cases have another label than in {named} (first: {apart[0]})"
            remedy = "compare models of one target only"
            problems.add(Problem(code="M01", where=name, what=what, remedy=remedy))
    problems.refuse(DataError)


def _labels(folds: Sequence[FoldScores]) -> dict[str, int]:
    return {c: y for f in folds for c, y in zip(f.case_ids, f.labels.tolist(), strict=True)}


def _other_folds(scored: Scored, named: str) -> list[Problem]:
    ours = _places(scored[named])
    found = []
    for name, folds in scored.items():
        theirs = _places(folds)
        if theirs == ours:
            continue
        seeds, our_seeds = (sorted({s for s, _ in p}) for p in (theirs, ours))
        what = f"was not tested on the folds of {named}"
        if seeds != our_seeds:
            what += f" (seeds {_list(seeds)}, not {_list(our_seeds)})"
        remedy = "run momkd crossval for both with the same folds and --seeds, or leave it out"
        found.append(Problem(code="M02", where=name, what=what, remedy=remedy))
    return found


def _places(folds: Sequence[FoldScores]) -> dict[tuple[int, int], frozenset[str]]:
    return {(f.seed, f.fold): frozenset(f.case_ids) for f in folds}


def _list(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers[:10]))


def _ratio_of_tables(
    folds: Sequence[FoldScores], unlike: Sequence[Problem]
) -> tuple[float | None, list[str]]:
    """Give n_test / n_train where tables hold repeats of the same folds; training is the rest."""
    if unlike:
        names = ", ".join(problem.where for problem in unlike)
        return None, [f"other folds in {names}: compared case by case"]
    if len({f.seed for f in folds}) < 2:
        return None, ["no repeats: the models are compared as they were trained"]
    n_test = sum(len(f.labels) for f in folds) / len(folds)
    ratio = n_test / (len(_labels(folds)) - n_test)
    return ratio, [
        f"cases tested over cases trained on: {ratio:.2f}, if all cases not tested were trained on"
    ]
