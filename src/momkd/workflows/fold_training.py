"""A training of a fold, without its test side: the samples it may see, and the fit itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from numpy.random import SeedSequence

import momkd
from momkd.checkpoint import CheckpointStore
from momkd.data.cohort import cohort_digest
from momkd.data.controls import Lesson, make_lesson
from momkd.data.panel import Panel, fit_panel
from momkd.data.samples import SampleSet
from momkd.errors import DataError
from momkd.models.table import MODELS, build_model
from momkd.nn.processes import Processes
from momkd.predictor import Card
from momkd.storage import canonical_json, digest_bytes, write_text
from momkd.training import Fitted, Progress, fit
from momkd.types import Cohort, Dims, Fold
from momkd.workflows.fold_tables import Decision
from momkd.workflows.settings import ModelChoice, Settings
from momkd.workflows.sides import embeddings_used, sample_set


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldJob:
    """One training to be done, and where its results go.

    ``protocol`` is the digest of the protocol that it is done under, where one was frozen.
    """

    choice: ModelChoice
    seed: int
    fold: Fold
    folder: Path
    protocol: str | None = None

    @property
    def name(self) -> str:
        """How the job is called in messages."""
        return f"{self.choice.label} seed {self.seed} fold {self.fold.index}"

    def lesson(self, cohort: Cohort, settings: Settings) -> Lesson:
        """Give what the training side is taught: its own RNA, or a control's."""
        return make_lesson(
            cohort,
            self.fold,
            settings.controls,
            settings.panel,
            self.fold.seed,
            rna=self.choice.control,
        )

    def decision(self, card: Card) -> Decision:
        """Give what rows of predictions need of a card."""
        return Decision(
            model=self.choice.label,
            seed=self.seed,
            fold=self.fold.index,
            class_names=card.class_names,
            calibration=card.calibration,
            threshold=card.threshold,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sides:
    """What a training of a fold may see: its training and its validation side, and no more.

    Parameters
    ----------
    train, val
        Samples; the slides of test cases are unknown to either.
    panel
        The genes of the fold, if its model learns from RNA.
    dims
        Widths that the model is built with.
    cohort
        Digest of the whole cohort, for the record.
    """

    train: SampleSet
    val: SampleSet
    panel: Panel | None
    dims: Dims
    cohort: str


def open_sides(
    job: FoldJob, cohort: Cohort, taught: Lesson, settings: Settings, processes: Processes
) -> Sides:
    """Open the training and the validation side of a fold.

    Raises
    ------
    DataError
        O19, O21 as :func:`~momkd.data.panel.fit_panel`.
    """
    panel = processes.share(lambda: _fit_panel(job, taught, settings))
    slide = next(iter(cohort.slides.values()))
    n_genes = None
    if MODELS[job.choice.name].needs_rna:
        # without RNA (control "none") its towers are built all the same, and never moved
        n_genes = settings.panel.n_genes if panel is None else len(panel.genes)
    return Sides(
        train=sample_set(without_cases(taught.cohort, job.fold), taught.train, panel, settings),
        val=sample_set(without_cases(cohort, job.fold), job.fold.val, None, settings),
        panel=panel,
        dims=Dims(dim_in=slide.dim, n_classes=len(cohort.class_names), n_genes=n_genes),
        cohort=cohort_digest(cohort),
    )


def without_cases(cohort: Cohort, fold: Fold) -> Cohort:
    """Give a cohort without the test cases of a fold and without their slides."""
    tested = set(fold.test)
    cases = tuple(c for c in cohort.cases if c.case_id not in tested)
    return replace(
        cohort, cases=cases, slides={s: cohort.slides[s] for c in cases for s in c.slide_ids}
    )


def train_model(
    job: FoldJob,
    sides: Sides,
    settings: Settings,
    *,
    checkpoint: Path | None,
    processes: Processes,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Fitted:
    """Build a job's model and fit it; equal jobs, sides and settings give equal weights.

    Parameters
    ----------
    checkpoint
        Folder to save in and to go on from; None in all but the first of several processes.

    Raises
    ------
    MomkdError
        As :func:`momkd.training.fit`.
    """
    seed = derive_seed(job.seed, job.fold.index)
    torch.manual_seed(derive_seed(seed, "weights"))
    model = build_model(job.choice.name, sides.dims, job.choice.preset, job.choice.options)
    return fit(
        model,
        sides.train,
        sides.val,
        settings.fit,
        seed=seed,
        checkpoint=None if checkpoint is None else CheckpointStore(checkpoint),
        fingerprint=_fingerprint(job, sides, settings),
        on_progress=on_progress,
        should_stop=should_stop,
        processes=processes,
    )


def learn_panel(job: FoldJob, taught: Lesson) -> Panel:
    """Fit the genes of a fold on what its training side is taught.

    Raises
    ------
    DataError
        O19, O21 as :func:`~momkd.data.panel.fit_panel`.
    IntegrityError
        K07 a held-out case had a part in it.
    """
    expression = taught.cohort.expression
    if expression is None:
        what = "no training case with RNA is left"
        raise DataError.of("O19", job.name, what, "withhold less (controls.withhold_rna)")
    side = set(taught.train)
    cases = [c for c in taught.cohort.cases if c.case_id in side and c.has_rna]
    panel = fit_panel(expression, cases, taught.panel, derive_seed(job.seed, "panel"))
    panel.require_disjoint([*job.fold.val, *job.fold.test])
    return panel


def derive_seed(*parts: int | str) -> int:
    """Mix numbers and words into one seed; equal parts, equal seed, on every machine."""
    digest = digest_bytes(canonical_json([str(p) for p in parts]).encode())
    return int(SeedSequence(int(digest[:16], 16)).generate_state(1)[0])


def _fit_panel(job: FoldJob, taught: Lesson, settings: Settings) -> Panel | None:
    if not MODELS[job.choice.name].needs_rna or job.choice.control == "none":
        return None
    panel = learn_panel(job, taught)
    write_text(job.folder / "panel.json", panel.to_json())
    return panel


def _fingerprint(job: FoldJob, sides: Sides, settings: Settings) -> Mapping[str, str]:
    return {
        "settings": settings.shared_digest(),
        "model": digest_bytes(canonical_json(job.choice.resolved()).encode()),
        "control": job.choice.control,
        "cohort": sides.cohort,
        "panel": "" if sides.panel is None else digest_bytes(sides.panel.to_json().encode()),
        "embeddings": embeddings_used(settings),
        "fold": digest_bytes(repr(job.fold).encode()),
        "momkd": momkd.__version__,
        "torch": str(torch.__version__),
        "threads": str(torch.get_num_threads()),
    }
