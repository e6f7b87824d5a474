"""A search on one fold: trials on its training side, scored on its validation side.

It is given these two sides and nothing else, so no trial can read a test case. ``search.csv`` holds
the trials that are done; a search that was stopped goes on behind the last of them, and the trial
in which it was stopped goes on from its own checkpoint.
"""

import csv
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from momkd.errors import ConfigError, DataError, ModelError
from momkd.fitting.search import Trial, Value, best_trial, budget_curve, propose
from momkd.nn.processes import ALONE
from momkd.storage import write_text
from momkd.training import Progress
from momkd.workflows.fold_training import FoldJob, Sides, derive_seed, train_model
from momkd.workflows.searching import defaults_of, space_of, with_options
from momkd.workflows.settings import Settings

TRIALS = "search.csv"
_COLUMNS = ("trial", "options", "score", "epoch", "seconds", "failure")
# a training that ran away or collapsed is a bad trial; anything else is no fault of its options
_OF_OPTIONS = ("T06", "T09")


def search_fold(
    job: FoldJob,
    sides: Sides,
    settings: Settings,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Trial:
    """Run the trials of a fold that are still open, and give the best of all.

    Raises
    ------
    InterruptedRunError
        T02 asked to stop; the same call goes on.
    ModelError
        T21 every trial failed.
    DataError
        T22 the record of the trials is damaged, or of another search.
    """
    blind = replace(job, fold=replace(job.fold, test=()))
    space = space_of(job.choice, settings.search)
    defaults = defaults_of(job.choice, settings, space)
    seed = derive_seed(settings.search.seed, job.seed, job.fold.index)
    trials = read_trials(job.folder / TRIALS, set(space))
    while len(trials) < settings.search.trials:
        options = propose(space, defaults, seed, trials)
        watched: dict[str, Any] = {"on_progress": on_progress, "should_stop": should_stop}
        trials.append(_try(blind, sides, settings, len(trials), options, watched))
        write_text(job.folder / TRIALS, _as_csv(trials))
    shutil.rmtree(job.folder / "search", ignore_errors=True)
    return best_trial(trials[: settings.search.trials])


def read_trials(path: Path, keys: set[str] | None = None) -> list[Trial]:
    """Read the trials that are done; none where there is no file.

    Parameters
    ----------
    keys
        What the options of each trial must name; None asks nothing of them.

    Raises
    ------
    DataError
        T22 the file is damaged, or names other options.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            trials = [_trial(row) for row in csv.DictReader(stream)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError.of("T22", str(path), f"is damaged: {error}", "delete it") from None
    is_other = keys is not None and any(set(t.options) != keys for t in trials)
    if is_other or [t.number for t in trials] != list(range(len(trials))):
        what = "is not of this search: its trials are other ones"
        raise DataError.of("T22", str(path), what, "delete it, or choose another -o")
    return trials


def score_searches(run: Path, jobs: Sequence[str]) -> dict[str, Any]:
    """Give the searches of a run by model, over its trainings: what the budget brought.

    Returns
    -------
    dict
        By label: ``trials``, ``fits``, ``curve`` (mean over trainings of the best validation score
        after 1, 2, 4, ... trials), ``defaults_kept`` (trainings in which trial 0 was the best),
        ``failed`` trials and ``seconds`` of all together. Models without a search are absent.
    """
    by_model: dict[str, list[list[Trial]]] = {}
    for job in jobs:
        trials = read_trials(run / job / TRIALS)
        if trials and any(t.score is not None for t in trials):
            by_model.setdefault(job.split("/")[0], []).append(trials)
    return {name: _summarise(searches) for name, searches in by_model.items()}


def _summarise(searches: Sequence[Sequence[Trial]]) -> dict[str, Any]:
    curves = [budget_curve(trials) for trials in searches]
    sizes = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {
        "trials": max(len(trials) for trials in searches),
        "fits": len(searches),
        "curve": [
            {"trials": n, "best_validation_score": sum(c[n] for c in curves) / len(curves)}
            for n in sizes
        ],
        "defaults_kept": sum(best_trial(trials).number == 0 for trials in searches),
        "failed": sum(t.score is None for trials in searches for t in trials),
        "seconds": round(sum(t.seconds for trials in searches for t in trials), 1),
    }


def _try(
    job: FoldJob,
    sides: Sides,
    settings: Settings,
    number: int,
    options: Mapping[str, Value],
    watched: Mapping[str, Any],
) -> Trial:
    """Train with some options; the score is what an epoch is chosen by."""
    place = job.folder / "search" / f"trial-{number}"
    started_s = time.monotonic()
    score, epoch, failure = None, None, ""
    try:
        tried, changed = with_options(job, settings, options)
        fitted = train_model(tried, sides, changed, checkpoint=place, processes=ALONE, **watched)
        epoch = fitted.best_epoch
        score = float(fitted.history[epoch]["smoothed"])
    except ConfigError as error:  # each value fits the model, and these do not fit together
        failure = error.problems[0].line()
    except ModelError as error:
        if error.problems[0].code not in _OF_OPTIONS:
            raise
        failure = error.problems[0].line()
    seconds = round(time.monotonic() - started_s, 3)
    return Trial(
        number=number, options=options, score=score, epoch=epoch, seconds=seconds, failure=failure
    )


def _as_csv(trials: Sequence[Trial]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for t in trials:
        score = "" if t.score is None else repr(t.score)
        epoch = "" if t.epoch is None else t.epoch
        options = json.dumps(dict(t.options), allow_nan=False)
        writer.writerow([t.number, options, score, epoch, t.seconds, t.failure])
    return text.getvalue()


def _trial(row: Mapping[str, str]) -> Trial:
    options = json.loads(row["options"])
    if not isinstance(options, dict):
        raise TypeError(f"the options of trial {row['trial']} are no mapping")
    return Trial(
        number=int(row["trial"]),
        options=options,
        score=float(row["score"]) if row["score"] else None,
        epoch=int(row["epoch"]) if row["epoch"] else None,
        seconds=float(row["seconds"]),
        failure=row["failure"],
    )
