"""Clinical tables: which case has which slides, which label, and which site."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from momkd.config import Options
from momkd.data.barcodes import parse_barcode
from momkd.data.delimited import (
    CASE_COLUMNS,
    SITE_COLUMNS,
    SLIDE_COLUMNS,
    TextTable,
    find_column,
    is_blank,
    read_table,
)
from momkd.data.label_notes import target_notes, threshold_notes
from momkd.data.layouts.material import slide_id_of
from momkd.data.target import Stated, TargetOptions, count_values, normalise, read_labels
from momkd.errors import DataError, Problem, Problems

__all__ = [
    "ClinicalRow",
    "ClinicalTable",
    "ColumnOptions",
    "TargetOptions",
    "drop_second_headers",
    "list_values",
    "normalise",
    "read_clinical",
]


class ColumnOptions(Options):
    """Names of the columns, where they are not recognised by themselves."""

    case: str | None = None
    slide: str | None = None
    site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalRow:
    """A case as the table states it; ``label`` None with the reason in ``why_unknown``.

    ``slide_ids`` are without the extensions of slide files. A row about a sample that is no primary
    tumour keeps its whole barcode as ``case_id``, has no label, and ``code`` O03.
    """

    case_id: str
    slide_ids: tuple[str, ...]
    label: int | None
    site: str | None
    why_unknown: str | None = None
    code: str = "L01"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalTable:
    """All cases of a table; ``names_slides`` tells whether it has a slide column."""

    path: Path
    rows: tuple[ClinicalRow, ...]
    names_slides: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Names of the columns in use, as the table spells them."""

    label: str
    case: str
    slide: str | None
    site: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One row of the file."""

    line: int
    stated: Stated
    slides: tuple[str, ...]
    site: str


def list_values(path: Path, target: str) -> tuple[str, dict[str, int]]:
    """Give a target column's exact name and its stated values with their counts.

    Raises
    ------
    DataError
        L07 no such column, O16 no table.
    """
    table = read_table(path)
    problems = Problems()
    column = _wanted(table, target, "target", problems)
    problems.refuse(DataError)
    drop_second_headers(table, find_column(table.columns, CASE_COLUMNS))
    return column, count_values(table.column(column))


def read_clinical(path: Path, target: TargetOptions, columns: ColumnOptions) -> ClinicalTable:
    """Read cases, slides, labels and sites.

    Barcodes of samples are cut to the case. Blank cells are unknown: a row that states nothing
    leaves the word to the case's other rows.

    Raises
    ------
    DataError
        All at once: L01 values that are neither positive, negative nor excluded, L02 a value on two
        sides, L04 slides of a case with different labels, L05 rows without case id, L06 conflicting
        rows of a case, L10 a side that never occurs, L12 a slide under two cases, L13 a number
        passed as label, L14 a prediction that equals the label. Before that L07 columns that are
        absent or stand twice, O16 no table.
    """
    table = read_table(path)
    used = _find_columns(table, target, columns)
    n_headers = drop_second_headers(table, used.case)
    problems = Problems()
    stated, found = read_labels(table, used.label, target)
    problems.found += found
    stated = _with_reasons(table, used.label, stated)
    places, n_cut = _lines_by_case(table, used, stated, problems)
    rows = [_row(path, case_id, lines, problems) for case_id, lines in places.items()]
    _require_one_case_a_slide(path, rows, problems)
    problems.refuse(DataError)
    n_equal = sum(len(p) - len({line.slides for line in p}) for p in places.values())
    notes = {
        f"clinical: {n_headers} further header lines left out": n_headers,
        f"clinical: {n_cut} sample barcodes cut to the case": n_cut,
        f"clinical: {n_equal} rows repeat a case and slide: collapsed": n_equal,
        "clinical: no slide column: slides are matched to cases by their names": not used.slide,
    }
    return ClinicalTable(
        path=path,
        rows=tuple(rows),
        names_slides=used.slide is not None,
        notes=(
            *(note for note, said in notes.items() if said),
            *target_notes(target),
            *threshold_notes(table, used.label, stated),
        ),
    )


def _find_columns(table: TextTable, target: TargetOptions, given: ColumnOptions) -> _Columns:
    problems = Problems()
    label = _wanted(table, target.column, "target", problems)
    case = given.case or find_column(table.columns, CASE_COLUMNS)
    slide = given.slide or find_column(table.columns, SLIDE_COLUMNS)
    site = given.site or find_column(table.columns, SITE_COLUMNS)
    if case is None:
        what = f"no column of case ids (has {', '.join(table.columns[:6])})"
        remedy = "set data.columns.case"
        problems.add(Problem(code="L07", where=str(table.path), what=what, remedy=remedy))
    found = _Columns(
        label=label,
        case=_wanted(table, case, "columns.case", problems) if case else "",
        slide=_wanted(table, slide, "columns.slide", problems) if slide else None,
        site=_wanted(table, site, "columns.site", problems) if site else None,
    )
    problems.refuse(DataError)
    return found


def _wanted(table: TextTable, name: str, key: str, problems: Problems) -> str:
    """Give the column called ``name``, spelt as in the table; tell L07 if there is not just one."""
    exact = name if name in table.columns else find_column(table.columns, (name,))
    if exact is None:
        spelt = {c.casefold(): c for c in table.columns}
        near = [spelt[c] for c in get_close_matches(name.casefold(), spelt, n=3, cutoff=0)]
        what, remedy = f"no column {name!r}", f"nearest: {', '.join(near)}; set data.{key}"
    elif table.columns.count(exact) > 1:
        what = f"has {table.columns.count(exact)} columns called {exact!r}"
        remedy = "rename or remove all but one"
    else:
        return exact
    problems.add(Problem(code="L07", where=str(table.path), what=what, remedy=remedy))
    return name


def drop_second_headers(table: TextTable, case_column: str | None) -> int:
    """Remove the second and third header lines of GDC biotab files from a table; count them."""
    if case_column is None:
        return 0
    place = table.columns.index(case_column)
    n_headers = 0
    while n_headers < len(table.rows):
        cell = table.rows[n_headers][place].strip()
        if cell != case_column and not cell.startswith("CDE_ID:"):
            break
        n_headers += 1
    del table.rows[:n_headers], table.lines[:n_headers]
    return n_headers


def _with_reasons(table: TextTable, label: str, stated: Sequence[Stated]) -> list[Stated]:
    """Add to blank labels why they are blank, where a column ``<label>_reason`` says it."""
    column = find_column(table.columns, (f"{label}_reason",))
    if column is None:
        return list(stated)
    return [
        s if s.words or is_blank(why) else replace(s, why_unknown=f"{s.why_unknown}: {why}")
        for s, why in zip(stated, table.column(column), strict=True)
    ]


def _lines_by_case(
    table: TextTable, used: _Columns, stated: Sequence[Stated], problems: Problems
) -> tuple[Mapping[str, list[_Line]], int]:
    """Group the rows of each case; count the barcodes that were cut."""
    cases = table.column(used.case)
    n = len(cases)
    slides = [""] * n if used.slide is None else table.column(used.slide)
    sites = [""] * n if used.site is None else table.column(used.site)
    places: dict[str, list[_Line]] = defaultdict(list)
    n_cut = 0
    for i, text in enumerate(cases):
        # a case may be called NA: only an empty cell is none
        if not text:
            what, where = "a row without case id", str(table.path)
            problems.add(Problem(code="L05", where=where, what=what, row=table.lines[i]))
            continue
        barcode = parse_barcode(text)
        case_id = barcode.case_id if barcode is not None and barcode.is_primary else text
        n_cut += len(case_id) < len(text)
        named = [s.strip() for s in slides[i].split(";") if not is_blank(s)]
        line = _Line(
            line=table.lines[i],
            stated=stated[i],
            slides=tuple(dict.fromkeys(slide_id_of(Path(s)) for s in named)),
            site="" if is_blank(sites[i]) else sites[i],
        )
        places[case_id].append(line)
    return places, n_cut


def _row(path: Path, case_id: str, lines: Sequence[_Line], problems: Problems) -> ClinicalRow:
    slides = tuple(dict.fromkeys(s for line in lines for s in line.slides))
    barcode = parse_barcode(case_id)
    if barcode is not None and not barcode.is_primary:
        why = f"sample type {barcode.sample_type} is not primary tumour"
        return ClinicalRow(
            case_id=case_id, slide_ids=slides, label=None, site=None, why_unknown=why, code="O03"
        )
    words = {line.stated.words: line for line in lines if line.stated.words}
    if len(words) > 1:
        code = "L06" if len({line.slides for line in lines}) == 1 else "L04"
        what = f"case {case_id} is both {' and '.join(sorted(words))}"
        remedy = "one label a case: mend the table"
        row = max(line.line for line in words.values())
        problems.add(Problem(code=code, where=str(path), what=what, remedy=remedy, row=row))
    sites = sorted({line.site for line in lines} - {""})
    if len(sites) > 1:
        what = f"case {case_id} stands at several sites ({', '.join(sites)})"
        row, remedy = lines[-1].line, "one site a case: mend the table"
        problems.add(Problem(code="L06", where=str(path), what=what, remedy=remedy, row=row))
    decisive = next(iter(words.values()), lines[0]).stated
    return ClinicalRow(
        case_id=case_id,
        slide_ids=slides,
        label=decisive.label,
        site=sites[0] if sites else None,
        why_unknown=decisive.why_unknown,
    )


def _require_one_case_a_slide(path: Path, rows: Sequence[ClinicalRow], problems: Problems) -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for slide_id in row.slide_ids:
            owners[slide_id].append(row.case_id)
    shared = {s: c for s, c in owners.items() if len(c) > 1}
    n_joined = sum(map(len, owners.values()))
    for slide_id, cases in shared.items():
        what = f"slide {slide_id} stands under {len(cases)} cases ({', '.join(cases[:3])})"
        remedy = f"a slide has one case ({len(owners)} slides would become {n_joined})"
        problems.add(Problem(code="L12", where=str(path), what=what, remedy=remedy))
