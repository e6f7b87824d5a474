"""Slides, labels and RNA brought together: everything listed is used, or left out with a reason."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from momkd.data.aliases import merge_aliases, read_aliases, rename_rows
from momkd.data.clinical import ClinicalTable, ColumnOptions, read_clinical
from momkd.data.concordance import question_labels, question_sex, read_sexes
from momkd.data.covariates import read_covariates
from momkd.data.expression import read_expression
from momkd.data.layouts.material import slide_id_of
from momkd.data.matching import Dropped, TissueRules, match
from momkd.data.pairing import keep_paired
from momkd.data.rna.genes import GeneChange
from momkd.data.rna.options import RnaOptions
from momkd.data.target import TargetOptions
from momkd.errors import DataError, MomkdError, Problem
from momkd.storage import canonical_json, digest_bytes, write_text
from momkd.types import Case, Cohort, Expression, SlideFile


class DataOptions(RnaOptions):
    """Where the data lie and how they are read; how RNA is read, :class:`RnaOptions` says.

    Parameters
    ----------
    features
        Folders or files in a known layout.
    clinical
        Table with cases, slides and labels.
    rna
        RNA table or folder; None without RNA.
    target
        The label column and what its values mean.
    columns
        Names of columns that are not recognised by themselves.
    feature_key
        Dataset of the embeddings, instead of the layout's own.
    coords
        Folder of the files of tile corners, where the features lie apart from them (CLAM's
        ``patches``, torchmil's ``coords``).
    slide_mpp
        Micrometres per level-0 pixel of every slide, or a table with ``slide_id`` and ``mpp``; used
        to place micrometre coordinates (STAMP) on level 0.
    cache_dir
        Folder of packed bags (``momkd pack``), read instead of the feature files in training and
        filled on the way. Absent: ``<configuration>.packed`` beside the file that names the
        features, if it exists. None: not used.
    on_nonfinite
        ``refuse`` a feature file with NaN or infinite values, or ``drop`` those rows and say so.
    slide_kinds
        TCGA slides in use: ``DX`` diagnostic; ``TS``, ``MS``, ``BS`` frozen sections.
    neighbours
        k of the tile graph.
    cache_gib
        Bags kept in memory, a process.
    patient_alias
        Table of ``alias`` and ``case_id``: ids that stand for a patient known by another.
    paired_only
        Leave out cases that lack slide or RNA, as published work does; they stand in
        ``dropped.csv``.
    covariates
        Columns of the clinical table for the baseline ``clinical_logistic``; no model of slides
        sees them.
    """

    features: list[Path] = Field(min_length=1)
    clinical: Path
    rna: Path | None = None
    target: TargetOptions
    columns: ColumnOptions = Field(default_factory=ColumnOptions)
    feature_key: str | None = None
    coords: Path | None = None
    slide_mpp: Annotated[float, Field(gt=0.01, lt=100)] | Path | None = None
    cache_dir: Path | None = None
    on_nonfinite: Literal["refuse", "drop"] = "refuse"
    slide_kinds: tuple[Literal["DX", "TS", "MS", "BS"], ...] = Field(("DX",), min_length=1)
    neighbours: int = Field(8, ge=1)
    cache_gib: float = Field(4.0, ge=0)
    patient_alias: Path | None = None
    paired_only: bool = False
    covariates: list[str] = Field(default_factory=list)

    @field_validator("features", "slide_kinds", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A cohort, what was left out of it, and what was said on the way."""

    cohort: Cohort
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    n_listed: int
    n_skipped: int
    listed: Mapping[str, int]
    gene_changes: tuple[GeneChange, ...] = ()

    def counts(self) -> dict[str, int]:
        """Count what was listed, used and dropped, by kind; listed = used + dropped."""
        cohort = self.cohort
        n_rna = sum(c.has_rna for c in cohort.cases)
        used = {"case": len(cohort.cases), "slide": len(cohort.slides), "rna": n_rna}
        left = Counter(d.kind for d in self.dropped)
        found = {}
        for kind in ("case", "slide", "rna"):
            found[f"{kind}s listed"] = self.listed[kind]
            found[f"{kind}s used"] = used[kind]
            found[f"{kind}s left out"] = left[kind]
        paired = sum(c.has_rna and bool(c.slide_ids) for c in cohort.cases)
        found["cases with slide and RNA"] = paired
        found["cases with slide only"] = sum(not c.has_rna for c in cohort.cases)
        found["cases with RNA only"] = sum(not c.slide_ids for c in cohort.cases)
        for label, name in enumerate(cohort.class_names):
            found[f"cases {name}"] = sum(c.label == label for c in cohort.cases)
        return found

    def write(self, folder: Path) -> None:
        """Write ``cohort.csv``, ``dropped.csv`` and, where there are any, the rest.

        ``covariates.csv`` holds the covariates that were named, ``genes.csv`` changes of genes.
        """
        cohort = self.cohort
        rows: list[list[Any]] = []
        for case in cohort.cases:
            rna = case.case_id if case.has_rna else ""
            tail = [rna, case.site or "", case.label, cohort.class_names[case.label]]
            slides = case.slide_ids or ("",)
            rows += [
                [case.case_id, s, cohort.slides[s].path.name if s else "", *tail] for s in slides
            ]
        header = ["case_id", "slide_id", "feature_path", "rna_id", "site", "label", "class_name"]
        _write_csv(folder / "cohort.csv", header, rows)
        left = [[d.kind, d.id, d.case_id, d.code, d.reason] for d in self.dropped]
        _write_csv(folder / "dropped.csv", ["kind", "id", "case_id", "code", "reason"], left)
        stated = cohort.covariates
        if stated is not None:
            blank = ("",) * len(stated.names)
            given = [[c.case_id, *stated.values.get(c.case_id, blank)] for c in cohort.cases]
            _write_csv(folder / "covariates.csv", ["case_id", *stated.names], given)
        if self.gene_changes:
            changes = [[g.name, g.gene, g.what] for g in self.gene_changes]
            _write_csv(folder / "genes.csv", ["name", "gene", "what"], changes)


def load_cohort(
    options: DataOptions, slides: Mapping[str, SlideFile], skipped: Sequence[Problem]
) -> Audit:
    """Join examined slides with the clinical and the RNA table.

    Parameters
    ----------
    options
        Where the tables are.
    slides
        Files that passed their door.
    skipped
        Slides left out at their door, with the reason.

    Raises
    ------
    DataError
        Every fault of both tables together; where both can be read, L03 a class without any usable
        case, and O04 or O14 an RNA table that shares no case with the clinical one.
    """
    problems: list[Problem] = []
    aliases: dict[str, str] = {}
    joined: list[Dropped] = []
    if options.paired_only and options.rna is None:
        what, remedy = "wants pairs, and there is no data.rna", "give data.rna, or leave it off"
        problems.append(Problem(code="O24", where="data.paired_only", what=what, remedy=remedy))
    if options.patient_alias is not None:
        aliases = read_aliases(options.patient_alias)
    clinical, rna, covariates, notes = None, None, None, list[str]()
    try:
        clinical = read_clinical(options.clinical, options.target, options.columns)
        clinical = merge_aliases(clinical, aliases) if aliases else clinical
        notes += clinical.notes
    except MomkdError as error:
        problems += error.problems
    if options.rna is not None:
        try:
            rna = read_expression(options.rna, options, target_column=options.target.column)
            notes += rna.notes
        except MomkdError as error:
            problems += error.problems
    if options.covariates and clinical is not None:
        try:
            covariates = read_covariates(
                options.clinical,
                options.covariates,
                case_column=options.columns.case,
                target_column=options.target.column,
                aliases=aliases,
            )
        except MomkdError as error:
            problems += error.problems
    if clinical is None or problems:
        raise DataError(*problems)
    skipped_by_id = {slide_id_of(Path(p.where)): p for p in skipped}
    expression = None
    if rna is not None:
        expression, joined = rename_rows(rna.expression, aliases)
    rna_ids = () if expression is None else expression.case_ids
    tissue = TissueRules(sample_types=options.sample_types, slide_kinds=options.slide_kinds)
    found = match(clinical, slides.keys(), skipped_by_id, frozenset(rna_ids), tissue, aliases)
    if options.paired_only:
        found = keep_paired(found)
    if expression is not None:
        problems += _require_shared_cases(options, clinical, expression)
    problems += _require_classes(options, clinical, found.cases, slides)
    if problems:
        raise DataError(*problems)
    cohort = Cohort(
        task=options.target.column,
        class_names=options.target.class_names,
        cases=found.cases,
        slides={s: slides[s] for c in found.cases for s in c.slide_ids},
        expression=expression,
        covariates=covariates,
    )
    passed = () if rna is None else rna.left_out
    left = [
        Dropped(kind="rna", id=s.id, case_id=s.case_id, code=s.code, reason=s.reason)
        for s in passed
    ]
    return Audit(
        cohort=cohort,
        dropped=(*found.dropped, *joined, *left),
        notes=(*notes, *found.notes, *_questions(options, cohort)),
        n_listed=len(slides) + len(skipped),
        n_skipped=len(skipped),
        listed=dict(found.listed) | {"rna": len(rna_ids) + len(joined) + len(left)},
        gene_changes=() if rna is None else rna.gene_changes,
    )


def cohort_digest(cohort: Cohort) -> str:
    """SHA-256 of cases, labels and slide digests, whatever their order."""
    content = [
        [c.case_id, c.label, sorted(cohort.slides[s].sha256 for s in c.slide_ids)]
        for c in sorted(cohort.cases, key=lambda c: c.case_id)
    ]
    return digest_bytes(canonical_json([cohort.task, content]).encode())


def rna_digest(cohort: Cohort) -> str | None:
    """SHA-256 of the RNA of a cohort's cases, whatever the order of cases and genes."""
    table = cohort.expression
    if table is None:
        return None
    ids = sorted(c.case_id for c in cohort.cases if c.has_rna)
    order = sorted(range(len(table.genes)), key=table.genes.__getitem__)
    head = [table.scale, ids, [table.genes[i] for i in order]]
    sha = hashlib.sha256(canonical_json(head).encode())
    place = {c: i for i, c in enumerate(table.case_ids)}
    for case_id in ids:
        row = table.values[place[case_id]][order]
        sha.update(np.where(np.isnan(row), np.nan, row).astype("<f4").tobytes())
    return sha.hexdigest()


def _questions(options: DataOptions, cohort: Cohort) -> list[str]:
    """Ask whether RNA, labels and sexes go together."""
    if cohort.expression is None:
        return []
    sexes = read_sexes(options.clinical, options.columns.case)
    return [
        *question_labels(cohort.expression, cohort.cases, cohort.task),
        *question_sex(cohort.expression, sexes),
    ]


def _require_shared_cases(
    options: DataOptions, clinical: ClinicalTable, expression: Expression
) -> list[Problem]:
    """Tell an RNA table without a single case of the clinical table."""
    cases = {row.case_id for row in clinical.rows}
    if cases.intersection(expression.case_ids):
        return []
    n_turned = len(cases.intersection(expression.genes))
    if n_turned:
        code, remedy = "O14", "name its first column gene"
        what = f"looks transposed: {n_turned} of its genes are cases of the clinical table"
    else:
        code, remedy = "O04", "bring both tables to one kind of id"
        ids = f"first: {expression.case_ids[0]!r}, there {min(cases, default='')!r}"
        what = f"none of its {len(expression.case_ids)} cases is in the clinical table ({ids})"
    return [Problem(code=code, where=str(options.rna), what=what, remedy=remedy)]


def _require_classes(
    options: DataOptions,
    clinical: ClinicalTable,
    cases: Sequence[Case],
    slides: Mapping[str, SlideFile],
) -> list[Problem]:
    """Tell a cohort in which a class has no case with a slide."""
    counts = Counter(c.label for c in cases if c.slide_ids)
    if len(counts) == len(options.target.class_names):
        return []
    shown = ", ".join(f"{counts[i]} {name}" for i, name in enumerate(options.target.class_names))
    what = f"usable cases with a slide: {shown}; both classes are needed"
    named = sorted(s for row in clinical.rows for s in row.slide_ids)
    remedy = "check that slide ids of table and files agree"
    if named and slides and not counts:
        remedy += f" (table: {named[0]!r}, files: {min(slides)!r})"
    return [Problem(code="L03", where=str(options.clinical), what=what, remedy=remedy)]


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
