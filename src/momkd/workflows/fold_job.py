"""One model on one fold: fit, decide on validation, freeze, and only then open the test side."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from momkd.data.cohort import cohort_digest
from momkd.data.controls import Lesson
from momkd.data.features import read_bag
from momkd.data.label_notes import target_notes
from momkd.data.panel import Panel
from momkd.errors import IntegrityError, ModelError
from momkd.evaluation.calibration import choose_thresholds, fit_calibration
from momkd.models.base import BagClassifier
from momkd.models.table import MODELS
from momkd.nn.processes import ALONE, Processes
from momkd.predictor import (
    Card,
    Predictor,
    fit_embedding_range,
    load_predictor,
    save_predictor,
)
from momkd.serving.weights import pack_tensors
from momkd.storage import digest_bytes, write_bytes, write_json, write_text
from momkd.training import Progress, Scored, score
from momkd.types import Cohort
from momkd.workflows.fold_search import search_fold
from momkd.workflows.fold_tables import as_csv, by_case, prediction_row
from momkd.workflows.fold_training import FoldJob, open_sides, train_model
from momkd.workflows.searching import with_options
from momkd.workflows.settings import ModelChoice, Settings

__all__ = [
    "THRESHOLD_RULE",
    "TRAINING_SIDE",
    "FoldJob",
    "require_frozen",
    "require_trainable",
    "run_fold",
    "score_test",
    "write_training_side",
]

THRESHOLD_RULE = "max_f1"
TRAINING_SIDE = "training_side.safetensors"


def run_fold(
    job: FoldJob,
    cohort: Cohort,
    settings: Settings,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    processes: Processes = ALONE,
) -> None:
    """Train one model on one fold and write its folder; return at once if that is done.

    The test side is read through the saved predictor, after its thresholds are on disk: what
    serves later is what is scored here (no RNA on that path). Of several processes that share the
    training, the first does all of that, and all else that is written.

    Raises
    ------
    InterruptedRunError
        Asked to stop, or another process is gone; a checkpoint is kept.
    ModelError
        The model cannot learn from this cohort, or training went wrong (T06, T09).
    """
    if (job.folder / "done.json").exists():
        return
    require_trainable(job.choice, cohort)
    taught = job.lesson(cohort, settings)
    sides = open_sides(job, cohort, taught, settings, processes)
    watched: dict[str, Any] = {"on_progress": on_progress, "should_stop": should_stop}
    searched = {}
    if settings.search.trials:
        found = search_fold(job, sides, settings, **watched)
        job, settings = with_options(job, settings, found.options)
        searched = {"search": {"trials": settings.search.trials, "chosen": found.number}}
    kept = None if processes.rank else job.folder / "checkpoint"
    fitted = train_model(job, sides, settings, checkpoint=kept, **watched, processes=processes)
    if processes.rank:
        return
    model, panel = fitted.model, sides.panel
    val = score(model, sides.val, batch_size=settings.fit.batch_size)
    card = _decide(job, cohort, taught, settings, panel, val)
    seen = fit_embedding_range(
        bag.embeddings
        for i, key in enumerate(sides.train.keys)
        if key.slide_id is not None and (bag := sides.train[i].bag) is not None
    )
    card = card.model_copy(update={"embedding_range": seen})
    write_text(job.folder / "history.csv", as_csv(fitted.history))
    save_predictor(Predictor(model, card), job.folder / "predictor")
    if model.keeps_training_side:
        write_training_side(job.folder / TRAINING_SIDE, model)
    decision = job.decision(card)
    rows = [prediction_row(decision, scored, "val") for scored in val]
    rows += [prediction_row(decision, scored, "test") for scored in score_test(job, cohort)]
    write_text(job.folder / "predictions.csv", as_csv(rows))
    done = {
        "best_epoch": fitted.best_epoch,
        "epochs": fitted.epochs_run,
        "stop_reason": fitted.stop_reason,
        "notes": [*taught.notes, *(panel.notes if panel else ()), *fitted.notes],
        "kernels": fitted.kernels,
        "protocol": job.protocol,
        **searched,
    }
    write_json(job.folder / "done.json", done)
    shutil.rmtree(job.folder / "checkpoint", ignore_errors=True)


def require_trainable(choice: ModelChoice, cohort: Cohort) -> None:
    """Turn a model and a cohort away that do not fit, before anything is trained.

    Raises
    ------
    ModelError
        F16 a graph model and slides without coordinates; O23 a model that learns from RNA and a
        cohort without any; one problem each.
    """
    cls = MODELS[choice.name]
    fitting = ", ".join(sorted(_models_for(cohort)))
    problems = []
    taught = cls.needs_rna and choice.control != "none"
    if taught and not any(c.has_rna for c in cohort.cases):
        what = "learns from RNA, and no case of the cohort has any"
        remedy = f"give data.rna, or choose a model that needs none: {fitting}"
        problems.append(ModelError.of("O24", f"model {choice.name}", what, remedy))
    bare = sorted(s.slide_id for s in cohort.slides.values() if not s.has_coords)
    if cls.needs_coordinates and bare:
        what = (
            f"needs tile coordinates for its graph; {len(bare)} of {len(cohort.slides)} slides "
            f"have none (first: {bare[0]})"
        )
        remedy = f"write 'coords' into the feature files, or choose: {fitting}"
        problems.append(ModelError.of("F16", f"model {choice.name}", what, remedy))
    if problems:
        raise ModelError(*(p for error in problems for p in error.problems))


def require_frozen(decision: Path, name: str) -> None:
    """Keep the test side closed until what was decided on validation is on disk.

    Raises
    ------
    IntegrityError
        K08 it is not.
    """
    if not decision.is_file():
        what = f"the test side is closed until {decision.name} is written"
        raise IntegrityError.of("K08", name, what, "decide on validation first")


def _models_for(cohort: Cohort) -> list[str]:
    has_rna = any(c.has_rna for c in cohort.cases)
    has_coords = all(s.has_coords for s in cohort.slides.values())
    return [
        name
        for name, cls in MODELS.items()
        if (has_rna or not cls.needs_rna) and (has_coords or not cls.needs_coordinates)
    ]


def write_training_side(path: Path, model: BagClassifier) -> None:
    """Write the weights that only training uses, for who looks at what was learnt.

    Raises
    ------
    ModelError
        C11 a weight is not finite.
    """
    tensors = {k: t.detach().cpu().contiguous().clone() for k, t in model.training_state()}
    write_bytes(path, pack_tensors(tensors, f"model {type(model).__name__}"))


def _decide(
    job: FoldJob,
    cohort: Cohort,
    taught: Lesson,
    settings: Settings,
    panel: Panel | None,
    val: Sequence[Scored],
) -> Card:
    logits = np.stack([s.logits for s in val])
    labels = np.array([s.label for s in val])
    calibration = fit_calibration(logits, labels)
    _, case_labels, case_probabilities = by_case(val, calibration.probabilities(logits))
    thresholds = choose_thresholds(case_probabilities[:, 1], case_labels)
    learnt_from = {*taught.train, *job.fold.val}
    seen = {s for c in cohort.cases if c.case_id in learnt_from for s in c.slide_ids}
    slide = next(iter(cohort.slides.values()))
    return Card(
        model=job.choice.name,
        preset=job.choice.preset,
        options=job.choice.resolved(),
        dims={"dim_in": slide.dim, "n_classes": len(cohort.class_names)},
        task=cohort.task,
        class_names=cohort.class_names,
        encoder=slide.encoder,
        encoder_sha256=slide.encoder_sha256,
        tile_px=slide.tile_px,
        overlap_px=slide.overlap_px,
        magnification=slide.magnification,
        mpp=slide.mpp,
        neighbours=settings.data.neighbours,
        temperature=calibration.temperature,
        offset=calibration.offset,
        thresholds={name: t.value for name, t in thresholds.items()},
        threshold_rule=THRESHOLD_RULE,
        target_notes=target_notes(settings.data.target),
        seen_slides=tuple(sorted(cohort.slides[s].content_sha256 for s in seen)),
        provenance={
            "cohort": cohort_digest(cohort),
            "seed": job.seed,
            "fold": job.fold.index,
            "control": job.choice.control if MODELS[job.choice.name].needs_rna else None,
            "n_train": len(_heard(taught, reads_rna=panel is not None)),
            "n_train_rna": 0 if panel is None else len(panel.fitted_on),
            "n_val": len(job.fold.val),
            "positive_share": _positive_share(cohort, learnt_from),
            "panel": None if panel is None else digest_bytes(panel.to_json().encode()),
            "selector": None if panel is None else panel.selector,
            "n_genes": None if panel is None else len(panel.genes),
        },
    )


def _positive_share(cohort: Cohort, case_ids: Iterable[str]) -> float:
    """Share of positive cases among those with a slide that a model learnt from."""
    learnt = set(case_ids)
    labels = [c.label for c in cohort.cases if c.case_id in learnt and c.slide_ids]
    return round(sum(label == 1 for label in labels) / len(labels), 6)


def _heard(taught: Lesson, *, reads_rna: bool) -> list[str]:
    """Give the training cases that a model can hear: RNA alone only where it is read."""
    side = set(taught.train)
    cases = [c for c in taught.cohort.cases if c.case_id in side]
    return [c.case_id for c in cases if c.slide_ids or reads_rna]


def score_test(job: FoldJob, cohort: Cohort) -> list[Scored]:
    """Score the test side through the predictor as saved.

    Raises
    ------
    IntegrityError
        K08 nothing has been decided yet: thresholds, temperature and epoch must be on disk first.
    """
    require_frozen(job.folder / "predictor" / "config.json", job.name)
    predictor = load_predictor(job.folder / "predictor")
    scored = []
    for case_id in job.fold.test:
        case = cohort.case(case_id)
        for slide_id in case.slide_ids:
            file = cohort.slides[slide_id]
            bag = read_bag(file, k=predictor.card.neighbours)
            predictor.require_fit(bag)
            scored.append(
                Scored(
                    case_id=case_id,
                    slide_id=slide_id,
                    label=case.label,
                    logits=predictor.logits(bag),
                )
            )
    return scored
