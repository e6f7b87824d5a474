"""What training cases are taught instead of their own RNA, and how much of it: controls.

A gain of a model that learns from RNA counts as knowledge from RNA only where it exceeds what the
same model gains from RNA of other cases of the class, and from the label in the place of RNA.
All of it happens inside the training side of one fold; validation and test are not touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import SeedSequence
from pydantic import Field

from momkd.config import Options
from momkd.data.panel import PanelOptions
from momkd.storage import digest_bytes
from momkd.types import Case, Cohort, Expression, Fold

RNAControl: TypeAlias = Literal["true_pairs", "shuffled_within_class", "label", "none"]

LABEL_NOISE = 0.1
"""SD of the noise on the label in RNA's place: without it, columns have no spread in a class."""


class ControlOptions(Options):
    """What the training side of every fold learns from.

    Parameters
    ----------
    rna
        ``true_pairs``; ``shuffled_within_class``: each training case gets the RNA of another one of
        its class; ``label``: columns that hold the label, 0 or 1, with noise of SD 0.1, as many as
        the panel has genes; ``none``: the same student without RNA terms. Of models that learn
        from RNA, unless a model names its own (``momkd+shuffled``).
    withhold_rna
        Share of the training cases with slide and RNA whose RNA is withheld, of each class; the
        same cases whatever the model, and those of a smaller share are among those of a larger.
    drop_unpaired
        Leave training cases out that lack slide or RNA (after withholding), as published training
        does. Validation and test keep theirs.
    """

    rna: RNAControl = "true_pairs"
    withhold_rna: float = Field(0.0, ge=0, lt=1)
    drop_unpaired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What one training may look at.

    Parameters
    ----------
    cohort
        The cohort with the RNA that is taught.
    train
        Cases of the training side that take part.
    panel
        How genes are chosen from that RNA.
    notes
        What was changed, for the reader.
    """

    cohort: Cohort
    train: tuple[str, ...]
    panel: PanelOptions
    notes: tuple[str, ...] = ()


def make_lesson(
    cohort: Cohort,
    fold: Fold,
    options: ControlOptions,
    panel: PanelOptions,
    seed: int,
    *,
    rna: RNAControl | None = None,
) -> Lesson:
    """Prepare the training side of a fold.

    Parameters
    ----------
    fold
        Its training side is changed; RNA of all other cases is taken away from what is returned.
    seed
        Of the split, so that every model of a run is taught the same.
    rna
        Instead of ``options.rna``.
    """
    control = rna or options.rna
    side = set(fold.train)
    cases = sorted((c for c in cohort.cases if c.case_id in side), key=lambda c: c.case_id)
    hidden = _withheld(cases, options.withhold_rna, seed)
    has_rna = [c.case_id for c in cases if c.has_rna and c.case_id not in hidden]
    notes = [f"controls: RNA of {len(hidden)} training cases is withheld"] if hidden else []
    kept = [c for c in cases if c.slide_ids or c.case_id in has_rna]
    if options.drop_unpaired:
        paired = [c for c in kept if c.slide_ids and c.case_id in has_rna]
        notes.append(
            f"controls: {len(kept) - len(paired)} of {len(kept)} training cases lack slide or RNA "
            "and are left out"
        )
        kept = paired
    taught = [c for c in kept if c.case_id in has_rna]
    if control == "none":
        left = [c for c in kept if c.slide_ids]
        if len(left) < len(kept):
            text = f"controls: {len(kept) - len(left)} training cases with RNA alone have nothing"
            notes.append(f"{text} left to teach")
        kept, taught = left, []
    expression = _expression(cohort, taught, control, panel, seed)
    with_rna = {c.case_id for c in taught}
    told = {c.case_id: replace(c, has_rna=c.case_id in with_rna) for c in kept}
    others = {
        c.case_id: replace(c, has_rna=False) for c in cohort.cases if c.slide_ids
    }  # cases of the other sides, and those left out: without RNA
    everyone = tuple(sorted((others | told).values(), key=lambda c: c.case_id))
    slides = {s: cohort.slides[s] for c in everyone for s in c.slide_ids}
    is_label = control == "label"
    return Lesson(
        cohort=replace(cohort, cases=everyone, slides=slides, expression=expression),
        train=tuple(told),
        panel=PanelOptions(selector="all", winsor=0.0) if is_label else panel,
        notes=tuple(notes),
    )


def _withheld(cases: Sequence[Case], share: float, seed: int) -> frozenset[str]:
    """Choose training pairs whose RNA is withheld: the first of each class by a seeded digest."""
    hidden: set[str] = set()
    for label in sorted({c.label for c in cases}):
        pairs = [c.case_id for c in cases if c.label == label and c.slide_ids and c.has_rna]
        pairs.sort(key=lambda case_id: digest_bytes(f"withhold {seed} {case_id}".encode()))
        hidden.update(pairs[: round(share * len(pairs))])
    return frozenset(hidden)


def _expression(
    cohort: Cohort, taught: Sequence[Case], control: RNAControl, panel: PanelOptions, seed: int
) -> Expression | None:
    """Give the RNA that is taught; rows of taught cases only."""
    if cohort.expression is None or not taught:
        return None
    ids = tuple(c.case_id for c in taught)
    if control == "label":
        return _labels(taught, min(panel.n_genes, len(cohort.expression.genes)), seed)
    source = _partners(taught, seed) if control == "shuffled_within_class" else ids
    return replace(cohort.expression, case_ids=ids, values=cohort.expression.rows(source))


def _partners(taught: Sequence[Case], seed: int) -> tuple[str, ...]:
    """Give each case another one of its class: a random ring, so that none keeps its own."""
    rng = np.random.default_rng(SeedSequence(seed, spawn_key=(1,)))
    partner: dict[str, str] = {}
    for label in sorted({c.label for c in taught}):
        ids = [c.case_id for c in taught if c.label == label]
        ring = [ids[i] for i in rng.permutation(len(ids))]
        partner |= dict(zip(ring, [*ring[1:], *ring[:1]], strict=True))
    return tuple(partner[c.case_id] for c in taught)


def _labels(taught: Sequence[Case], n_columns: int, seed: int) -> Expression:
    """Give the label in the place of genes: columns of either class in turn."""
    rng = np.random.default_rng(SeedSequence(seed, spawn_key=(2,)))
    labels = np.array([c.label for c in taught])
    classes = np.arange(n_columns) % (int(labels.max(initial=1)) + 1)
    told = (labels[:, None] == classes).astype(np.float64)
    values = (told + LABEL_NOISE * rng.standard_normal(told.shape)).astype(np.float32)
    width = len(str(n_columns))
    return Expression(
        case_ids=tuple(c.case_id for c in taught),
        genes=tuple(f"label_{i:0{width}d}" for i in range(n_columns)),
        values=values,
    )
