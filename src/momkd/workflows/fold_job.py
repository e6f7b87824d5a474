"""One model on one fold: fit, decide on validation, freeze, and only then open the test side."""

import csv
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy.random import SeedSequence

import momkd
from momkd.checkpoint import CheckpointStore
from momkd.data.cohort import cohort_digest
from momkd.data.features import read_bag
from momkd.data.packed_cache import PackedCache
from momkd.data.panel import Panel, fit_panel
from momkd.data.samples import SampleSet
from momkd.errors import ModelError
from momkd.evaluation.calibration import choose_thresholds, fit_calibration
from momkd.models.base import BagClassifier
from momkd.models.table import MODELS, build_model
from momkd.predictor import (
    Card,
    EmbeddingRange,
    Predictor,
    fit_embedding_range,
    load_predictor,
    save_predictor,
)
from momkd.storage import canonical_json, digest_bytes, write_json, write_text
from momkd.training import Fitted, Progress, Scored, fit, score
from momkd.types import Cohort, Dims, Fold, SlideFile
from momkd.workflows.settings import ModelChoice, Settings

THRESHOLD_RULE = "max_f1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldJob:
    """One training to be done, and where its results go."""

    choice: ModelChoice
    seed: int
    fold: Fold
    folder: Path

    @property
    def name(self) -> str:
        """How the job is called in messages."""
        return f"{self.choice.label} seed {self.seed} fold {self.fold.index}"


def run_fold(
    job: FoldJob,
    cohort: Cohort,
    settings: Settings,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Train one model on one fold and write its folder; return at once if that is done.

    The test side is read through the saved predictor, after its thresholds are on disk: what
    serves later is what is scored here (no RNA on that path).

    Raises
    ------
    InterruptedRunError
        Asked to stop; a checkpoint is kept.
    ModelError
        The model cannot learn from this cohort, or training went wrong (T06, T09).
    """
    if (job.folder / "done.json").exists():
        return
    require_trainable(job.choice, cohort)
    model, fitted, panel, val, seen = _fit(job, cohort, settings, on_progress, should_stop)
    card = _decide(job, cohort, settings, model, panel, val)
    card = card.model_copy(update={"embedding_range": seen})
    write_text(job.folder / "history.csv", _table(fitted.history))
    save_predictor(Predictor(model, card), job.folder / "predictor")
    rows = [_row(job, card, scored, "val") for scored in val]
    rows += [_row(job, card, scored, "test") for scored in _score_test(job, cohort, settings)]
    write_text(job.folder / "predictions.csv", _table(rows))
    done = {
        "best_epoch": fitted.best_epoch,
        "epochs": fitted.epochs_run,
        "stop_reason": fitted.stop_reason,
        "notes": [*(panel.notes if panel else ()), *fitted.notes],
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
    if cls.needs_rna and not any(c.has_rna for c in cohort.cases):
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


def derive_seed(*parts: int | str) -> int:
    """Mix numbers and words into one seed; equal parts, equal seed, on every machine."""
    digest = digest_bytes(canonical_json([str(p) for p in parts]).encode())
    return int(SeedSequence(int(digest[:16], 16)).generate_state(1)[0])


def _models_for(cohort: Cohort) -> list[str]:
    has_rna = any(c.has_rna for c in cohort.cases)
    has_coords = all(s.has_coords for s in cohort.slides.values())
    return [
        name
        for name, cls in MODELS.items()
        if (has_rna or not cls.needs_rna) and (has_coords or not cls.needs_coordinates)
    ]


def _fit(
    job: FoldJob,
    cohort: Cohort,
    settings: Settings,
    on_progress: Callable[[Progress], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[BagClassifier, Fitted, Panel | None, list[Scored], EmbeddingRange | None]:
    panel = _fit_panel(job, cohort, settings)
    train = sample_set(cohort, job.fold.train, panel, settings)
    val = sample_set(cohort, job.fold.val, None, settings)
    seed = derive_seed(job.seed, job.fold.index)
    torch.manual_seed(derive_seed(seed, "weights"))
    slide = next(iter(cohort.slides.values()))
    n_genes = None if panel is None else len(panel.genes)
    dims = Dims(dim_in=slide.dim, n_classes=len(cohort.class_names), n_genes=n_genes)
    model = build_model(job.choice.name, dims, job.choice.preset, job.choice.options)
    fitted = fit(
        model,
        train,
        val,
        settings.fit,
        seed=seed,
        checkpoint=CheckpointStore(job.folder / "checkpoint"),
        fingerprint=_fingerprint(job, cohort, settings),
        on_progress=on_progress,
        should_stop=should_stop,
    )
    scored = score(fitted.model, val, batch_size=settings.fit.batch_size)
    seen = fit_embedding_range(
        bag.embeddings
        for i, key in enumerate(train.keys)
        if key.slide_id is not None and (bag := train[i].bag) is not None
    )
    return fitted.model, fitted, panel, scored, seen


def _fit_panel(job: FoldJob, cohort: Cohort, settings: Settings) -> Panel | None:
    if cohort.expression is None or not MODELS[job.choice.name].needs_rna:
        return None
    side = set(job.fold.train)
    cases = [c for c in cohort.cases if c.case_id in side and c.has_rna]
    panel = fit_panel(cohort.expression, cases, settings.panel, derive_seed(job.seed, "panel"))
    panel.require_disjoint([*job.fold.val, *job.fold.test])
    write_text(job.folder / "panel.json", panel.to_json())
    return panel


def sample_set(
    cohort: Cohort, case_ids: Sequence[str], panel: Panel | None, settings: Settings
) -> SampleSet:
    """Make the samples of one side; bags come from the packed cache, where there is one."""
    cache, k = open_cache(settings), settings.data.neighbours

    def read(file: SlideFile) -> Any:
        return read_bag(file, k=k) if cache is None else cache.read(file, k=k)

    return SampleSet(cohort, case_ids, panel, read=read, cache_gib=settings.data.cache_gib)


def open_cache(settings: Settings) -> PackedCache | None:
    """Open the packed cache of a configuration, if it names one."""
    folder = settings.data.cache_dir
    return None if folder is None else PackedCache(folder, neighbours=settings.data.neighbours)


def embeddings_used(settings: Settings) -> str:
    """Say what training reads: embeddings as stored, or packed with which precision."""
    cache = open_cache(settings)
    return "as stored" if cache is None else f"packed, {cache.precision}"


def _fingerprint(job: FoldJob, cohort: Cohort, settings: Settings) -> Mapping[str, str]:
    return {
        "settings": settings.shared_digest(),
        "model": digest_bytes(canonical_json(job.choice.resolved()).encode()),
        "cohort": cohort_digest(cohort),
        "embeddings": embeddings_used(settings),
        "fold": digest_bytes(repr(job.fold).encode()),
        "momkd": momkd.__version__,
        "torch": str(torch.__version__),
        "threads": str(torch.get_num_threads()),
    }


def _decide(
    job: FoldJob,
    cohort: Cohort,
    settings: Settings,
    model: BagClassifier,
    panel: Panel | None,
    val: Sequence[Scored],
) -> Card:
    logits = np.stack([s.logits for s in val])
    labels = np.array([s.label for s in val])
    calibration = fit_calibration(logits, labels)
    _, case_labels, case_probabilities = _by_case(val, calibration.probabilities(logits))
    thresholds = choose_thresholds(case_probabilities[:, 1], case_labels)
    learnt_from = [*job.fold.train, *job.fold.val]
    seen = {s for c in cohort.cases if c.case_id in set(learnt_from) for s in c.slide_ids}
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
        seen_slides=tuple(sorted(cohort.slides[s].sha256 for s in seen)),
        provenance={
            "cohort": cohort_digest(cohort),
            "seed": job.seed,
            "fold": job.fold.index,
            "n_train": len(job.fold.train),
            "n_val": len(job.fold.val),
            "panel": None if panel is None else digest_bytes(panel.to_json().encode()),
            "selector": None if panel is None else panel.selector,
            "n_genes": None if panel is None else len(panel.genes),
        },
    )


def _by_case(
    scored: Sequence[Scored], probabilities: Float32[np.ndarray, "n c"] | np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Average the probabilities of each case's slides: label and score belong to the case."""
    order = list(dict.fromkeys(s.case_id for s in scored))
    place = {c: i for i, c in enumerate(order)}
    owner = np.array([place[s.case_id] for s in scored])
    total = np.zeros((len(order), probabilities.shape[1]))
    np.add.at(total, owner, probabilities)
    labels = np.zeros(len(order), dtype=np.int64)
    labels[owner] = [s.label for s in scored]
    return order, labels, total / np.bincount(owner)[:, None]


def _score_test(job: FoldJob, cohort: Cohort, settings: Settings) -> list[Scored]:
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


def _row(job: FoldJob, card: Card, scored: Scored, split: str) -> dict[str, Any]:
    probabilities = card.calibration.probabilities(scored.logits[None])[0]
    threshold = card.thresholds[card.threshold_rule]
    row: dict[str, Any] = {
        "case_id": scored.case_id,
        "slide_id": scored.slide_id,
        "fold": job.fold.index,
        "split": split,
        "model": job.choice.label,
        "seed": job.seed,
        "y_true": scored.label,
    }
    for name, p in zip(card.class_names, probabilities, strict=True):
        row[f"prob_{name}"] = repr(float(p))
    row["y_pred"] = int(probabilities[1] >= threshold)
    row["threshold"] = repr(float(threshold))
    return row


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(k for row in rows for k in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
