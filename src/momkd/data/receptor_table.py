"""A clinical table with receptor measurements (GDC, cBioPortal) becomes one ruling a case."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from momkd.data.barcodes import parse_barcode
from momkd.data.clinical import drop_second_headers
from momkd.data.delimited import (
    CASE_COLUMNS,
    SITE_COLUMNS,
    TextTable,
    find_column,
    is_blank,
    read_table,
)
from momkd.data.receptor_status import (
    Her2Record,
    HormoneRecord,
    Ruling,
    UnreadableCellError,
    read_least_percent,
    read_ratio,
    read_score,
    read_status,
    rule_her2,
    rule_hormone,
)
from momkd.errors import DataError, Problem, Problems

RECEPTORS = ("HER2", "PR", "ER")

# what is measured -> names of the column, GDC's first, then cBioPortal's
_MEASURES: dict[str, dict[str, tuple[str, ...]]] = {
    "HER2": {
        "status": ("her2_status_by_ihc", "ihc_her2", "her2_ihc_status"),
        "score": ("her2_ihc_score",),
        "ish": ("her2_fish_status", "her2_ish_status", "fish_her2"),
        "ratio": ("her2_cent17_ratio",),
    },
    "PR": {
        "status": ("pr_status_by_ihc",),
        "percent": ("pr_status_ihc_percent_positive",),
    },
    "ER": {
        "status": ("er_status_by_ihc",),
        "percent": ("er_status_ihc_percent_positive",),
    },
}
_SAMPLE_COLUMNS = ("sample_id", "sample", "bcr_sample_barcode")
_SHOWN = 5
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptorCase:
    """A case: what was recorded (``raw``, by column), and the record of each receptor."""

    case_id: str
    site: str | None
    raw: Mapping[str, str]
    her2: Her2Record
    hormones: Mapping[str, HormoneRecord]

    def judge(self, receptor: str, rule: str) -> Ruling:
        """Give the status of a receptor by a rule."""
        if receptor == "HER2":
            return rule_her2(self.her2, rule)
        return rule_hormone(self.hormones[receptor], rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptorTable:
    """All cases of a table, the receptors it speaks of, and the raw columns they come from."""

    path: Path
    receptors: tuple[str, ...]
    columns: tuple[str, ...]
    cases: tuple[ReceptorCase, ...]
    notes: tuple[str, ...]


def has_receptors(columns: Sequence[str]) -> tuple[str, ...]:
    """Give the receptors whose status a table with such columns states."""
    return tuple(r for r in RECEPTORS if find_column(tuple(columns), _MEASURES[r]["status"]))


def read_receptors(path: Path) -> ReceptorTable:
    """Read the receptor measurements of a GDC or cBioPortal clinical table.

    Samples that are no primary tumour are left out and counted; rows of one case must agree.

    Raises
    ------
    DataError
        L07 no case column or no receptor status, O16 no table. All at once: L01 a cell that is no
        status, score or percentage; L05 a row without case; L06 rows of a case that differ.
    """
    table = read_table(path)
    receptors = has_receptors(table.columns)
    case_column = find_column(table.columns, CASE_COLUMNS)
    if not receptors or case_column is None:
        lacks = "no receptor status" if case_column else "no column of case ids"
        what = f"{lacks} (has {', '.join(table.columns[:6])}, ...)"
        wanted = ", ".join(_MEASURES[r]["status"][0] for r in RECEPTORS)
        remedy = f"give the GDC or cBioPortal clinical table ({wanted})"
        raise DataError.of("L07", str(path), what, remedy)
    n_headers = drop_second_headers(table, case_column)
    used = {
        (receptor, measure): column
        for receptor in receptors
        for measure, names in _MEASURES[receptor].items()
        if (column := find_column(table.columns, names)) is not None
    }
    problems = Problems()
    rows, n_other = _rows_by_case(table, case_column, problems)
    raw = {c: table.column(c) for c in used.values()}
    site_column = find_column(table.columns, SITE_COLUMNS)
    sites = [""] * len(table.rows) if site_column is None else table.column(site_column)
    reader = _CellReader(table, used, problems)
    cases = []
    for case_id, places in rows.items():
        _require_equal(table, case_id, places, raw, problems)
        cases.append(_case(case_id, sites[places[0]], places[0], raw, reader))
    reader.tell()
    problems.refuse(DataError)
    notes = {
        f"clinical: {n_headers} further header lines left out": n_headers,
        f"clinical: {n_other} samples that are not primary tumour left out": n_other,
    }
    return ReceptorTable(
        path=path,
        receptors=receptors,
        columns=tuple(dict.fromkeys(used.values())),
        cases=tuple(sorted(cases, key=lambda c: c.case_id)),
        notes=tuple(note for note, n in notes.items() if n),
    )


class _CellReader:
    """Reads measurements; what cannot be read is counted by value and told once."""

    def __init__(
        self, table: TextTable, used: Mapping[tuple[str, str], str], problems: Problems
    ) -> None:
        self._table = table
        self._used = used
        self._problems = problems
        self._cells = {column: table.column(column) for column in used.values()}
        self._strange: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def read(
        self, receptor: str, measure: str, row: int, parse: Callable[[str], _T | None]
    ) -> _T | None:
        column = self._used.get((receptor, measure))
        if column is None:
            return None
        cell = self._cells[column][row]
        try:
            return parse(cell)
        except UnreadableCellError as error:
            self._strange[column, str(error)][cell] += 1
            return None

    def tell(self) -> None:
        for (column, wanted), counts in self._strange.items():
            shown = ", ".join(f"{v!r} ({n})" for v, n in counts.most_common(_SHOWN))
            what = f"{sum(counts.values())} cells are not {wanted}: {shown}"
            remedy = "mend them, or write [Not Available]"
            where = str(self._table.path)
            problem = Problem(code="L01", where=where, what=what, remedy=remedy, column=column)
            self._problems.add(problem)


def _rows_by_case(
    table: TextTable, case_column: str, problems: Problems
) -> tuple[Mapping[str, list[int]], int]:
    """Group rows by case; count the samples that are no primary tumour."""
    ids = table.column(case_column)
    sample_column = find_column(table.columns, _SAMPLE_COLUMNS)
    samples = ids if sample_column is None else table.column(sample_column)
    rows: dict[str, list[int]] = defaultdict(list)
    n_other = 0
    for i, (text, sample) in enumerate(zip(ids, samples, strict=True)):
        if not text:
            what, where = "a row without case id", str(table.path)
            problems.add(Problem(code="L05", where=where, what=what, row=table.lines[i]))
            continue
        barcodes = [b for b in (parse_barcode(text), parse_barcode(sample)) if b is not None]
        if all(b.is_primary for b in barcodes):
            found = parse_barcode(text)
            rows[text if found is None else found.case_id].append(i)
        else:
            n_other += 1
    return rows, n_other


def _require_equal(
    table: TextTable,
    case_id: str,
    places: Sequence[int],
    raw: Mapping[str, Sequence[str]],
    problems: Problems,
) -> None:
    for column, cells in raw.items():
        found = sorted({cells[i] for i in places})
        if len(found) > 1:
            what = f"case {case_id} has rows that differ ({' and '.join(map(repr, found[:3]))})"
            row, where = table.lines[places[-1]], str(table.path)
            problems.add(
                Problem(
                    code="L06",
                    where=where,
                    what=what,
                    remedy="one statement a case",
                    row=row,
                    column=column,
                )
            )


def _case(
    case_id: str, site: str, row: int, raw: Mapping[str, Sequence[str]], reader: _CellReader
) -> ReceptorCase:
    barcode = parse_barcode(case_id)
    hormones: dict[str, Any] = {
        receptor: HormoneRecord(
            status=reader.read(receptor, "status", row, read_status),
            least_percent=reader.read(receptor, "percent", row, read_least_percent),
        )
        for receptor in ("PR", "ER")
    }
    return ReceptorCase(
        case_id=case_id,
        site=site if not is_blank(site) else None if barcode is None else barcode.site,
        raw={column: cells[row] for column, cells in raw.items()},
        her2=Her2Record(
            ihc_status=reader.read("HER2", "status", row, read_status),
            ihc_score=reader.read("HER2", "score", row, read_score),
            ish_status=reader.read("HER2", "ish", row, read_status),
            ratio=reader.read("HER2", "ratio", row, read_ratio),
        ),
        hormones=hormones,
    )
