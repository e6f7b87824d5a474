"""One bound or baseline on one fold: fitted on training, decided on validation, then tested.

It leaves ``predictions.csv`` and ``decision.json``, and no predictor: it says nothing of a slide.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from momkd.data.cohort import cohort_digest
from momkd.data.covariates import coder_digest, fit_covariates
from momkd.errors import ModelError
from momkd.evaluation.calibration import choose_thresholds, fit_calibration
from momkd.models.tabular import TABULAR, TabularModel, fit_tabular
from momkd.storage import digest_bytes, write_json, write_text
from momkd.training import Scored
from momkd.types import Case, Cohort
from momkd.workflows import fold_job
from momkd.workflows.fold_job import THRESHOLD_RULE, FoldJob
from momkd.workflows.fold_tables import Decision, as_csv, by_case, prediction_row
from momkd.workflows.fold_training import learn_panel
from momkd.workflows.settings import ModelChoice, Settings

_Columns = Callable[[Sequence[str]], Float64[np.ndarray, "n n_columns"]]


def require_doable(choice: ModelChoice, cohort: Cohort) -> None:
    """Turn a model or baseline and a cohort away that do not fit, before anything is trained.

    Raises
    ------
    ModelError
        O24 no case has RNA, L15 no covariates; of models of slides as
        :func:`~momkd.workflows.fold_job.require_trainable`.
    """
    if not choice.is_tabular:
        fold_job.require_trainable(choice, cohort)
        return
    where = f"model {choice.name}"
    if TABULAR[choice.name].reads == "rna" and not any(c.has_rna for c in cohort.cases):
        what = "reads RNA, and no case of the cohort has any"
        raise ModelError.of("O24", where, what, "give data.rna, or leave it out")
    if TABULAR[choice.name].reads == "covariates" and cohort.covariates is None:
        what = "reads clinical covariates, and none are named"
        raise ModelError.of("L15", where, what, "set data.covariates, such as [age, stage]")


def run_tabular(job: FoldJob, cohort: Cohort, settings: Settings) -> None:
    """Fit, decide and test one tabular model on one fold, and write its folder.

    Test cases are looked at after ``decision.json`` is on disk. Cases that lack what it reads (RNA)
    are not scored, and are counted in the notes.

    Raises
    ------
    DataError
        O19, O21 too little RNA in training; L15 a covariate that says nothing there.
    IntegrityError
        K07, K08 leakage.
    """
    if (job.folder / "done.json").exists():
        return
    require_doable(job.choice, cohort)
    job.folder.mkdir(parents=True, exist_ok=True)
    if TABULAR[job.choice.name].reads == "rna":
        train, columns, learnt, notes = _read_rna(job, cohort, settings)
    else:
        train, columns, learnt, notes = _read_covariates(job, cohort)
    labels = {c.case_id: c.label for c in cohort.cases}
    val = _scorable(job, cohort, job.fold.val)
    model = fit_tabular(
        columns(train),
        _labels(train, labels),
        columns([c.case_id for c in val]),
        np.array([c.label for c in val], dtype=np.int64),
        job.choice.tabular_options(),
    )
    scored = _score(model, columns, val)
    decision = _decide(job, cohort, scored)
    facts = {
        "model": job.choice.name,
        "fitted_on": learnt,
        "strength": model.strength,
        "threshold": decision.threshold,
        "temperature": decision.calibration.temperature,
        "offset": decision.calibration.offset,
        "cohort": cohort_digest(cohort),
        "served": False,
    }
    write_json(job.folder / "decision.json", facts)
    fold_job.require_frozen(job.folder / "decision.json", job.name)
    tested = _scorable(job, cohort, job.fold.test)
    rows = [prediction_row(decision, s, "val") for s in scored]
    rows += [prediction_row(decision, s, "test") for s in _score(model, columns, tested)]
    write_text(job.folder / "predictions.csv", as_csv(rows))
    n_unscored = len(job.fold.test) - len(tested)
    if n_unscored:
        notes.append(f"{job.choice.name}: test cases without RNA are not scored")
    write_json(job.folder / "done.json", {"notes": notes, "protocol": job.protocol})


def _read_rna(
    job: FoldJob, cohort: Cohort, settings: Settings
) -> tuple[list[str], _Columns, str, list[str]]:
    """Give training cases with RNA, and their panel as columns; withheld RNA stays withheld."""
    taught = job.lesson(cohort, settings)
    panel = learn_panel(job, taught)
    expression = cohort.expression
    assert expression is not None
    side = set(taught.train)
    train = [c.case_id for c in taught.cohort.cases if c.case_id in side and c.has_rna]

    def columns(case_ids: Sequence[str]) -> Float64[np.ndarray, "n n_columns"]:
        return panel.transform(expression, case_ids).astype(np.float64)

    write_text(job.folder / "panel.json", panel.to_json())
    return train, columns, digest_bytes(panel.to_json().encode()), list(panel.notes)


def _read_covariates(job: FoldJob, cohort: Cohort) -> tuple[list[str], _Columns, str, list[str]]:
    """Give all training cases, and their covariates as columns."""
    covariates = cohort.covariates
    assert covariates is not None
    train = sorted(job.fold.train)
    coder = fit_covariates(covariates, train)
    coder.require_disjoint([*job.fold.val, *job.fold.test])

    def columns(case_ids: Sequence[str]) -> Float64[np.ndarray, "n n_columns"]:
        return coder.transform(covariates, case_ids)

    return train, columns, coder_digest(coder), []


def _scorable(job: FoldJob, cohort: Cohort, case_ids: Sequence[str]) -> list[Case]:
    """Give the cases of a side that have what the model reads."""
    side = set(case_ids)
    cases = [c for c in cohort.cases if c.case_id in side]
    needs_rna = TABULAR[job.choice.name].reads == "rna"
    return sorted((c for c in cases if c.has_rna or not needs_rna), key=lambda c: c.case_id)


def _score(model: TabularModel, columns: _Columns, cases: Sequence[Case]) -> list[Scored]:
    """Score cases; a case stands for all its slides, so it names none."""
    logits = model.logits(columns([c.case_id for c in cases])).astype(np.float32)
    return [
        Scored(case_id=c.case_id, slide_id="", label=c.label, logits=row)
        for c, row in zip(cases, logits, strict=True)
    ]


def _decide(job: FoldJob, cohort: Cohort, val: Sequence[Scored]) -> Decision:
    logits = np.stack([s.logits for s in val])
    labels = np.array([s.label for s in val])
    calibration = fit_calibration(logits, labels)
    _, case_labels, probabilities = by_case(val, calibration.probabilities(logits))
    thresholds = choose_thresholds(probabilities[:, 1], case_labels)
    return Decision(
        model=job.choice.label,
        seed=job.seed,
        fold=job.fold.index,
        class_names=cohort.class_names,
        calibration=calibration,
        threshold=thresholds[THRESHOLD_RULE].value,
    )


def _labels(case_ids: Sequence[str], labels: dict[str, Any]) -> Int64[np.ndarray, " n"]:
    return np.array([labels[c] for c in case_ids], dtype=np.int64)
