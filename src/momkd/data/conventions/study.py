"""What every convention says in its own way: cases, slides, values, and who is split where."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from momkd.data.delimited import TextTable, find_column
from momkd.data.layouts.material import slide_id_of
from momkd.errors import DataError, Problem, Problems
from momkd.storage import write_text

SIDES = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """A case and one of its slides, or a case without one.

    ``slide`` is the slide as the table names it, with whatever extension and folder it has there;
    ``values`` are the other columns, as text.
    """

    case_id: str
    slide: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def slide_id(self) -> str:
        """Name of the slide without folder and extension."""
        return slide_id_of(Path(self.slide)) if self.slide else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSplit:
    """Who stands where in one fold: ids of cases or slides, as given; ``val`` may be empty."""

    index: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTables:
    """A study as its tables state it; nothing is interpreted."""

    label: str
    rows: tuple[StudyRow, ...]
    splits: tuple[GivenSplit, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the value columns, in the order they first occur."""
        return tuple(dict.fromkeys(c for row in self.rows for c in row.values))


class SplitRow(NamedTuple):
    """One id on one side of one fold, and where that is written; ``by_slide`` None if unknown."""

    path: Path
    line: int
    seed: int
    fold: int
    name: str
    side: str
    cohort: str = ""
    by_slide: bool | None = False


def gather(rows: Iterable[SplitRow]) -> tuple[GivenSplit, ...]:
    """Bring rows together fold by fold, in the order they stand in."""
    folds: dict[int, dict[str, list[str]]] = {}
    for row in rows:
        folds.setdefault(row.fold, {s: [] for s in SIDES})[row.side].append(row.name)
    return tuple(
        GivenSplit(index=i, **{s: tuple(names) for s, names in sides.items()})
        for i, sides in sorted(folds.items())
    )


def require_columns(table: TextTable, **wanted: Sequence[str]) -> dict[str, str]:
    """Give the spelling of each wanted column, known by any of its names.

    Raises
    ------
    DataError
        L07, one problem a column that is absent.
    """
    problems = Problems()
    found: dict[str, str] = {}
    for key, names in wanted.items():
        column = find_column(table.columns, tuple(names))
        if column is None:
            what = f"no column {names[0]!r} (has {', '.join(table.columns[:6])})"
            remedy = f"wanted one of {', '.join(names)}"
            problems.add(Problem(code="L07", where=str(table.path), what=what, remedy=remedy))
        else:
            found[key] = column
    problems.refuse(DataError)
    return found


def read_rows(table: TextTable, case: str, slide: str) -> tuple[StudyRow, ...]:
    """Read the rows of a table that has one row a slide."""
    case_place, slide_place = table.columns.index(case), table.columns.index(slide)
    rest = [i for i in range(len(table.columns)) if i not in (case_place, slide_place)]
    return tuple(
        StudyRow(
            case_id=row[case_place].strip(),
            slide=row[slide_place].strip(),
            values={table.columns[i]: row[i].strip() for i in rest},
        )
        for row in table.rows
    )


def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str = ","
) -> Path:
    """Write a table, whole or not at all."""
    write_text(path, make_table(header, rows, delimiter))
    return path


def make_table(header: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str = ",") -> str:
    """Set a table as text."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_slide_rows(
    path: Path, study: StudyTables, case: str, slide: str, delimiter: str = ","
) -> Path:
    """Write one row a slide: case, slide, values."""
    columns = study.columns
    rows = ([r.case_id, r.slide, *(r.values.get(c, "") for c in columns)] for r in study.rows)
    return write_table(path, [case, slide, *columns], rows, delimiter)
