"""Who belongs to whom: clinical rows, slides and RNA matched; what is left over gets a reason."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from momkd.data.barcodes import SLIDE_KINDS, case_of, parse_barcode, slide_kind_of
from momkd.data.clinical import ClinicalRow, ClinicalTable
from momkd.errors import Problem
from momkd.types import Case


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
class Match:
    """Cases to be used, everything else with its reason, and how much was listed of each kind."""

    cases: tuple[Case, ...]
    dropped: tuple[Dropped, ...]
    listed: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueRules:
    """Which TCGA slides may stand for a case; ids of other kinds are not looked at."""

    sample_types: tuple[str, ...] = ("01",)
    slide_kinds: tuple[str, ...] = ("DX",)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """Why something is left out."""

    code: str
    reason: str


def match(
    clinical: ClinicalTable,
    slides: Collection[str],
    skipped: Mapping[str, Problem],
    rna_ids: Collection[str],
    tissue: TissueRules | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Match:
    """Give each case its slides and its RNA.

    A slide belongs to the case whose row names it; without a slide column, to the case of its TCGA
    barcode or of its own name. Every clinical row, slide and RNA row is used or dropped, once.

    Parameters
    ----------
    clinical
        Cases and labels.
    slides
        Slides that passed their door.
    skipped
        Slides left out there, with the reason.
    rna_ids
        Cases of the RNA table.
    tissue
        Which TCGA slides may stand for a case; default primary tumour, diagnostic.
    aliases
        Cases that other ids stand for.
    """
    tissue = tissue or TissueRules()
    owned = _slides_of(clinical, sorted({*slides, *skipped}), aliases or {})
    cases: list[Case] = []
    dropped: list[Dropped] = []
    for row in sorted(clinical.rows, key=lambda r: r.case_id):
        listed = owned.get(row.case_id, ())
        named = clinical.names_slides
        faults = {s: _slide_fault(s, slides, skipped, tissue, named=named) for s in listed}
        usable = tuple(sorted(s for s, fault in faults.items() if fault is None))
        has_rna = row.case_id in rna_ids
        case_fault = _case_fault(row, usable, has_rna, n_listed=len(listed))
        if case_fault is None and row.label is not None:
            cases.append(
                Case(
                    case_id=row.case_id,
                    slide_ids=usable,
                    label=row.label,
                    site=_site(row),
                    has_rna=has_rna,
                )
            )
        if case_fault is not None:
            dropped.append(_drop("case", row.case_id, row.case_id, case_fault))
            gone = _Fault(code=case_fault.code, reason=f"its case is left out: {case_fault.reason}")
            faults |= dict.fromkeys(usable, gone)
            dropped += [_drop("rna", row.case_id, row.case_id, gone)] if has_rna else []
        dropped += [_drop("slide", s, row.case_id, f) for s, f in faults.items() if f is not None]
    dropped += _unclaimed(clinical, owned, slides, skipped, rna_ids, tissue)
    claimed = {s for listed in owned.values() for s in listed}
    n_slides = len(claimed.union(slides, skipped))
    return Match(
        cases=tuple(cases),
        dropped=tuple(dropped),
        listed={"case": len(clinical.rows), "slide": n_slides, "rna": len(rna_ids)},
        notes=_section_note([s for c in cases for s in c.slide_ids]),
    )


def _slides_of(
    clinical: ClinicalTable, found: Sequence[str], aliases: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Give the slides of each case: as the table names them, else by their names."""
    if clinical.names_slides:
        return {row.case_id: row.slide_ids for row in clinical.rows}
    cases = {row.case_id for row in clinical.rows}
    owned: dict[str, list[str]] = defaultdict(list)
    for slide_id in found:
        case_id = slide_id if slide_id in cases else case_of(slide_id)
        case_id = aliases.get(case_id, case_id)
        if case_id in cases:
            owned[case_id].append(slide_id)
    return {case_id: tuple(s) for case_id, s in owned.items()}


def _slide_fault(
    slide_id: str,
    slides: Collection[str],
    skipped: Mapping[str, Problem],
    tissue: TissueRules,
    *,
    named: bool,
) -> _Fault | None:
    """Say why a slide cannot stand for its case's tumour, or None.

    Normal tissue never can; other tumour than asked for only where the clinical table names it. A
    frozen section has to be asked for, named or not: whoever lists a whole download names them all.
    """
    if slide_id in skipped:
        problem = skipped[slide_id]
        return _Fault(code=problem.code, reason=problem.what)
    barcode = parse_barcode(slide_id)
    if barcode is not None and not (
        barcode.is_tumour if named else barcode.is_of(tissue.sample_types)
    ):
        why = "not asked for (data.sample_types)" if barcode.is_tumour else "no tumour"
        return _Fault(code="O03", reason=f"sample type {barcode.sample_type} is {why}")
    kind = slide_kind_of(slide_id) or ""
    if kind and kind not in tissue.slide_kinds:
        reason = f"slide kind {kind} is not asked for ({SLIDE_KINDS[kind]}; data.slide_kinds)"
        return _Fault(code="S21", reason=reason)
    return None if slide_id in slides else _Fault(code="L05", reason="no feature file")


def _case_fault(
    row: ClinicalRow, usable: Sequence[str], has_rna: bool, *, n_listed: int
) -> _Fault | None:
    if row.label is None:
        return _Fault(code=row.code, reason=row.why_unknown or "no label")
    if not usable and not has_rna:
        reason = f"neither a usable slide nor RNA ({n_listed} slides listed)"
        return _Fault(code="L05", reason=reason)
    return None


def _site(row: ClinicalRow) -> str | None:
    barcode = parse_barcode(row.case_id)
    return row.site or (None if barcode is None else barcode.site)


def _unclaimed(
    clinical: ClinicalTable,
    owned: Mapping[str, Sequence[str]],
    slides: Collection[str],
    skipped: Mapping[str, Problem],
    rna_ids: Collection[str],
    tissue: TissueRules,
) -> list[Dropped]:
    """Give the slides and RNA rows that no clinical row speaks of."""
    cases = {row.case_id for row in clinical.rows}
    claimed = {s for listed in owned.values() for s in listed}
    nowhere = _Fault(code="L05", reason="no row in the clinical table")
    unnamed = _Fault(code="L05", reason="its case's row in the clinical table does not name it")
    found = [_drop("rna", c, c, nowhere) for c in sorted({*rna_ids} - cases)]
    for slide_id in sorted({*slides, *skipped} - claimed):
        case_id = case_of(slide_id)
        fault = _slide_fault(slide_id, slides, skipped, tissue, named=True)
        fault = fault or (unnamed if case_id in cases else nowhere)
        found.append(_drop("slide", slide_id, case_id, fault))
    return found


def _drop(kind: Literal["case", "slide", "rna"], id_: str, case_id: str, fault: _Fault) -> Dropped:
    return Dropped(kind=kind, id=id_, case_id=case_id, code=fault.code, reason=fault.reason)


def _section_note(slide_ids: Sequence[str]) -> tuple[str, ...]:
    """Count the kinds of slides in use, where not all are diagnostic."""
    counts = Counter(slide_kind_of(s) or "of no stated kind" for s in slide_ids)
    if not set(counts) & {"TS", "MS", "BS"}:
        return ()
    return (f"slides: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}",)
