"""Patients under two ids: named in a table, brought together before anything is split."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from momkd.data.clinical import ClinicalRow, ClinicalTable
from momkd.data.delimited import CASE_COLUMNS, find_column, read_table
from momkd.data.matching import Dropped
from momkd.errors import DataError, Problem, Problems
from momkd.types import Expression


def read_aliases(path: Path) -> dict[str, str]:
    """Read which id stands for which case: columns ``alias`` and ``case_id``.

    Raises
    ------
    DataError
        L07 a column is absent; K15 an alias of two cases, of itself, or of another alias; O16 no
        table.
    """
    table = read_table(path)
    alias, case = find_column(table.columns, ("alias",)), find_column(table.columns, CASE_COLUMNS)
    if alias is None or case is None:
        what = f"has columns {', '.join(table.columns[:6])}, wanted alias and case_id"
        raise DataError.of("L07", str(path), what, "name them so")
    found: dict[str, str] = {}
    problems = Problems()
    for line, a, c in zip(table.lines, table.column(alias), table.column(case), strict=True):
        if a == c or not a or not c or found.setdefault(a, c) != c:
            what = f"{a!r} is said to be {c!r}"
            what += f" and {found[a]!r}" if a != c and a in found else ""
            problems.add(_fault(path, what, "one case an alias", line))
    for a, c in found.items():
        if c in found:
            problems.add(_fault(path, f"{a!r} stands for {c!r}, itself an alias", "name the case"))
    problems.refuse(DataError)
    return found


def merge_aliases(clinical: ClinicalTable, aliases: Mapping[str, str]) -> ClinicalTable:
    """Bring the rows of a patient's ids together: all slides, one label, one site.

    Raises
    ------
    DataError
        L06 ids of one patient with different labels or sites.
    """
    merged: dict[str, ClinicalRow] = {}
    problems = Problems()
    # the patient's own row first, whatever the order of the file
    for row in sorted(clinical.rows, key=lambda r: r.case_id in aliases):
        case_id = aliases.get(row.case_id, row.case_id)
        first = merged.get(case_id)
        if first is None:
            merged[case_id] = replace(row, case_id=case_id)
            continue
        for name, a, b in (("label", first.label, row.label), ("site", first.site, row.site)):
            if a is not None and b is not None and a != b:
                what = f"case {case_id} and its alias {row.case_id} have {name} {a} and {b}"
                remedy = "one patient, one answer: mend the table"
                where = str(clinical.path)
                problems.add(Problem(code="L06", where=where, what=what, remedy=remedy))
        known = first if first.label is not None else row
        merged[case_id] = replace(
            known,
            case_id=case_id,
            slide_ids=tuple(dict.fromkeys((*first.slide_ids, *row.slide_ids))),
            site=first.site or row.site,
        )
    problems.refuse(DataError)
    n_gone = len(clinical.rows) - len(merged)
    note = f"clinical: {n_gone} rows of aliases joined with their case"
    notes = (*clinical.notes, note) if n_gone else clinical.notes
    return replace(clinical, rows=tuple(merged.values()), notes=notes)


def rename_rows(
    expression: Expression, aliases: Mapping[str, str]
) -> tuple[Expression, list[Dropped]]:
    """Give RNA rows of aliases their case's id; a case that has its own keeps that one."""
    if not aliases:
        return expression, []
    kept: list[int] = []
    ids: list[str] = []
    dropped: list[Dropped] = []
    order = sorted(range(len(expression.case_ids)), key=lambda i: expression.case_ids[i] in aliases)
    for i in order:
        own = expression.case_ids[i]
        case_id = aliases.get(own, own)
        if case_id in ids and own in aliases:
            reason = f"an alias of case {case_id}, which has RNA already"
            dropped.append(Dropped(kind="rna", id=own, case_id=case_id, code="K12", reason=reason))
            continue
        kept.append(i)
        ids.append(case_id)
    values = expression.values[np.array(kept, dtype=np.int64)]
    return replace(expression, case_ids=tuple(ids), values=values), dropped


def _fault(path: Path, what: str, remedy: str, line: int | None = None) -> Problem:
    return Problem(code="K15", where=str(path), what=what, remedy=remedy, row=line)
