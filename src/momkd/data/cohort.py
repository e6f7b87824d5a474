"""Slides, labels and RNA brought together: everything listed is used, or left out with a reason."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from momkd.config import Options
from momkd.data.barcodes import case_of, parse_barcode
from momkd.data.clinical import (
    ClinicalRow,
    ClinicalTable,
    ColumnOptions,
    TargetOptions,
    read_clinical,
)
from momkd.data.expression import read_expression
from momkd.data.hdf5 import slide_id_of
from momkd.errors import DataError, MomkdError, Problem
from momkd.storage import canonical_json, digest_bytes, write_text
from momkd.types import Case, Cohort, Expression, SlideFile


class DataOptions(Options):
    """Where the data lie and how they are read.

    Parameters
    ----------
    features
        Folders or files in a known layout.
    clinical
        Table with cases, slides and labels.
    rna
        Wide RNA table; None without RNA.
    target
        The label column and what its values mean.
    columns
        Names of columns that are not recognised by themselves.
    feature_key
        Dataset of the embeddings, instead of the layout's own.
    rna_scale
        ``auto``, or what the values are.
    duplicate_genes
        ``refuse``, ``sum`` or ``mean``.
    neighbours
        k of the tile graph.
    cache_gib
        Bags kept in memory, a process.
    """

    features: list[Path] = Field(min_length=1)
    clinical: Path
    rna: Path | None = None
    target: TargetOptions
    columns: ColumnOptions = Field(default_factory=ColumnOptions)
    feature_key: str | None = None
    rna_scale: Literal["auto", "counts", "tpm", "rsem", "log2", "zscore"] = "auto"
    duplicate_genes: Literal["refuse", "sum", "mean"] = "refuse"
    neighbours: int = Field(8, ge=1)
    cache_gib: float = Field(4.0, ge=0)

    @field_validator("features", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Something listed and not used."""

    kind: Literal["case", "slide", "rna"]
    id: str
    case_id: str
    code: str
    reason: str

    @property
    def reason_class(self) -> str:
        """The reason without the details of one row, to count by."""
        return self.reason.split(" (", maxsplit=1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A cohort, what was left out of it, and what was said on the way."""

    cohort: Cohort
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    n_listed: int
    n_skipped: int
    listed: Mapping[str, int]

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
        """Write ``cohort.csv`` and ``dropped.csv``."""
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
        Every fault of both tables, and L03 a class without any usable case, together.
    """
    problems: list[Problem] = []
    clinical, expression, notes = None, None, list[str]()
    try:
        clinical = read_clinical(options.clinical, options.target, options.columns)
        notes += clinical.notes
    except MomkdError as error:
        problems += error.problems
    if options.rna is not None:
        try:
            expression, said = read_expression(
                options.rna,
                scale=options.rna_scale,
                duplicate_genes=options.duplicate_genes,
                target_column=options.target.column,
            )
            notes += said
        except MomkdError as error:
            problems += error.problems
    if clinical is None or problems:
        raise DataError(*problems)
    return _join(options, clinical, expression, slides, skipped, notes)


def cohort_digest(cohort: Cohort) -> str:
    """SHA-256 of cases, labels and slide digests, whatever their order."""
    content = [
        [c.case_id, c.label, sorted(cohort.slides[s].sha256 for s in c.slide_ids)]
        for c in sorted(cohort.cases, key=lambda c: c.case_id)
    ]
    return digest_bytes(canonical_json([cohort.task, content]).encode())


def _join(
    options: DataOptions,
    clinical: ClinicalTable,
    expression: Expression | None,
    slides: Mapping[str, SlideFile],
    skipped: Sequence[Problem],
    notes: list[str],
) -> Audit:
    dropped: list[Dropped] = []
    skipped_ids = {slide_id_of(Path(p.where)): p for p in skipped}
    owned = _slides_of(clinical, [*slides, *skipped_ids])
    rna_ids = set() if expression is None else set(expression.case_ids)
    cases: list[Case] = []
    for row in sorted(clinical.rows, key=lambda r: r.case_id):
        listed = owned.get(row.case_id, ())
        there = tuple(s for s in listed if s in slides)
        code, reason = _why_left_out(row, listed, there, row.case_id in rna_ids)
        for slide_id in listed:
            if slide_id in skipped_ids:
                p = skipped_ids[slide_id]
                dropped.append(_dropped("slide", slide_id, row.case_id, p.code, p.what))
            elif slide_id not in slides:
                dropped.append(_dropped("slide", slide_id, row.case_id, "L05", "no feature file"))
        if reason is None and row.label is not None:
            barcode = parse_barcode(row.case_id)
            cases.append(
                Case(
                    case_id=row.case_id,
                    slide_ids=tuple(sorted(there)),
                    label=row.label,
                    site=row.site or (barcode.site if barcode else None),
                    has_rna=row.case_id in rna_ids,
                )
            )
            continue
        reason = reason or "no label"
        dropped.append(_dropped("case", row.case_id, row.case_id, code, reason))
        gone = f"its case is left out: {reason}"
        dropped += [_dropped("slide", s, row.case_id, code, gone) for s in there]
        if row.case_id in rna_ids:
            dropped.append(_dropped("rna", row.case_id, row.case_id, code, gone))
    known = {row.case_id for row in clinical.rows}
    dropped += [
        _dropped("rna", c, c, "L05", "no row in the clinical table")
        for c in sorted(rna_ids - known)
    ]
    claimed = {s for listed in owned.values() for s in listed}
    for slide_id in sorted({*slides, *skipped_ids} - claimed):
        at_door = skipped_ids.get(slide_id)
        unclaimed = ("L05", "no row in the clinical table")
        code, reason = (at_door.code, at_door.what) if at_door else unclaimed
        dropped.append(_dropped("slide", slide_id, case_of(slide_id), code, reason))
    _require_classes(options, cases)
    kept = {s: slides[s] for c in cases for s in c.slide_ids}
    listed_counts = {
        "case": len(clinical.rows),
        "slide": len(claimed | set(slides) | set(skipped_ids)),
        "rna": len(rna_ids),
    }
    cohort = Cohort(
        task=options.target.column,
        class_names=options.target.class_names,
        cases=tuple(cases),
        slides=kept,
        expression=expression,
    )
    return Audit(
        cohort=cohort,
        dropped=tuple(dropped),
        notes=tuple(notes),
        n_listed=len(slides) + len(skipped),
        n_skipped=len(skipped),
        listed=listed_counts,
    )


def _slides_of(clinical: ClinicalTable, found: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Give the slides of each case: as the table names them, else by their names."""
    if clinical.names_slides:
        return {
            row.case_id: tuple(dict.fromkeys(slide_id_of(Path(s)) for s in row.slide_ids))
            for row in clinical.rows
        }
    cases = {row.case_id for row in clinical.rows}
    owned: dict[str, list[str]] = defaultdict(list)
    for slide_id in found:
        case_id = slide_id if slide_id in cases else case_of(slide_id)
        if case_id in cases:
            owned[case_id].append(slide_id)
    return {case_id: tuple(sorted(s)) for case_id, s in owned.items()}


def _why_left_out(
    row: ClinicalRow, listed: Sequence[str], there: Sequence[str], has_rna: bool
) -> tuple[str, str | None]:
    if row.label is None:
        return "L01", row.why_unknown
    if not there and not has_rna:
        return "L05", f"neither feature file nor RNA ({len(listed)} slides listed)"
    return "", None


def _dropped(
    kind: Literal["case", "slide", "rna"], id_: str, case_id: str, code: str, reason: str
) -> Dropped:
    return Dropped(kind=kind, id=id_, case_id=case_id, code=code, reason=reason)


def _require_classes(options: DataOptions, cases: Sequence[Case]) -> None:
    counts = Counter(c.label for c in cases if c.slide_ids)
    if len(counts) < 2:
        shown = ", ".join(
            f"{counts[i]} {name}" for i, name in enumerate(options.target.class_names)
        )
        what = f"usable cases with a slide: {shown}; both classes are needed"
        remedy = "check that slide ids of table and files agree"
        raise DataError.of("L03", str(options.clinical), what, remedy)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
