"""Splits in whatever form they lie there, recognised by content."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from momkd.data.conventions import clam, patho_bench, stamp
from momkd.data.conventions.study import SIDES, SplitRow
from momkd.errors import DataError, Problem, Problems

_FORMS = (
    "rows of fold, split and case_id (or slide_id), a folder of splits_i.csv, k=all.tsv with "
    "fold_i columns, or splits.json"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnySplits:
    """Rows of splits; ``foreign`` unless they are in our own long form."""

    rows: tuple[SplitRow, ...]
    foreign: bool


def read_any_splits(path: Path) -> AnySplits:
    """Read splits.

    The forms are: our own table, ``fold, split, case_id`` (or ``slide_id``) with ``seed`` and
    ``cohort`` optional; CLAM's, MCAT's and SurvPath's folder of ``splits_i.csv``, or one of these
    files; Patho-Bench's ``k=all.tsv``; STAMP's ``splits.json``.

    Raises
    ------
    DataError
        K13 none of these, or one problem a row at fault.
    """
    if path.is_dir():
        return AnySplits(rows=tuple(clam.read_split_rows(path)), foreign=True)
    if path.suffix.lower() == ".json":
        return AnySplits(rows=tuple(stamp.read_split_rows(path)), foreign=True)
    columns = _header(path)
    if patho_bench.fold_columns(columns):
        return AnySplits(rows=tuple(patho_bench.read_split_rows(path)), foreign=True)
    if clam.is_split_table(columns):
        return AnySplits(rows=tuple(clam.read_split_rows(path)), foreign=True)
    return AnySplits(rows=_read_long(path), foreign=False)


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            line = stream.readline()
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read: {error}"
        raise DataError.of("K13", str(path), what, f"folds.file is {_FORMS}") from None
    delimiter = "\t" if "\t" in line else ","
    return [
        c.strip() for c in next(csv.reader([line.replace("\0", "\ufffd")], delimiter=delimiter), [])
    ]


def _read_long(path: Path) -> tuple[SplitRow, ...]:
    where = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = f"cannot be read: {error}"
        raise DataError.of("K13", where, what, f"folds.file is {_FORMS}") from None
    column = next((c for c in ("case_id", "slide_id") if c in columns), None)
    if column is None or not {"fold", "split"} <= set(columns) or not lines:
        got = f"{len(lines)} rows of {', '.join(columns) or 'no column'}"
        raise DataError.of("K13", where, f"got {got}", f"wanted {_FORMS}")
    problems = Problems()
    rows = []
    for line, raw in lines:
        cell = {c: (raw.get(c) or "").strip() for c in columns}
        faults = list(_faults(cell, column))
        for name, wanted in faults:
            got = cell[name]
            what = f"got {got!r}, wanted {wanted}"
            fault = Problem(code="K13", where=where, what=what, row=line, column=name, value=got)
            problems.add(fault)
        if not faults:
            rows.append(
                SplitRow(
                    path=path,
                    line=line,
                    seed=int(cell.get("seed") or 0),
                    fold=int(cell["fold"]),
                    name=cell[column],
                    side=cell["split"],
                    cohort=cell.get("cohort", ""),
                    by_slide=column == "slide_id",
                )
            )
    problems.refuse(DataError)
    return tuple(rows)


def _faults(cell: dict[str, str], column: str) -> Iterator[tuple[str, str]]:
    """Give the columns of a row that cannot be used, and what was wanted there."""
    if not cell[column]:
        yield column, "an id"
    if cell["split"] not in SIDES:
        yield "split", f"one of {', '.join(SIDES)}"
    if not cell["fold"].isdecimal():
        yield "fold", "a whole number"
    if cell.get("seed") and not cell["seed"].isdecimal():
        yield "seed", "a whole number"
