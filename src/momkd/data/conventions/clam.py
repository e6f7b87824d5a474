"""CLAM: a dataset csv of slides, and a folder of ``splits_i.csv`` with one column a side.

MCAT, SurvPath and MoMKD's published code write the same split files with ids of cases and only two
columns, ``train`` and ``val``: there ``val`` is the side their results are reported on, and is
taken as test. ``splits_i_bool.csv`` says the same as ``splits_i.csv`` and is read where it stands
alone; ``splits_i_descriptor.csv`` holds counts and is not read.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from momkd.data.conventions.study import (
    SIDES,
    GivenSplit,
    SplitRow,
    StudyTables,
    gather,
    read_rows,
    require_columns,
    write_slide_rows,
    write_table,
)
from momkd.data.delimited import CASE_COLUMNS, SLIDE_COLUMNS, TextTable, read_table
from momkd.errors import DataError, Problem, Problems

_NAME = re.compile(r"^splits?_(\d+)(_bool)?\.csv$", re.I)


def read_clam(dataset: Path, splits: Path | None = None) -> StudyTables:
    """Read a dataset csv (``case_id, slide_id, label``, further columns kept) and its splits.

    Raises
    ------
    DataError
        L07 a column is absent, O16 no table, K13 no split files or such as cannot be read.
    """
    table = read_table(dataset)
    used = require_columns(table, case=CASE_COLUMNS, slide=SLIDE_COLUMNS, label=("label",))
    rows = () if splits is None else tuple(read_split_rows(splits))
    return StudyTables(
        label=used["label"],
        rows=read_rows(table, used["case"], used["slide"]),
        splits=gather(rows),
    )


def write_clam(study: StudyTables, folder: Path, *, label: str = "label") -> list[Path]:
    """Write ``dataset.csv`` and ``splits/splits_i.csv``, ``_bool`` and ``_descriptor``.

    CLAM calls the label column ``label``; ``study.label`` is written under that name.
    """
    renamed = [
        replace(row, values={label if c == study.label else c: v for c, v in row.values.items()})
        for row in study.rows
    ]
    plain = StudyTables(label=label, rows=tuple(renamed))
    written = [write_slide_rows(folder / "dataset.csv", plain, "case_id", "slide_id")]
    labels = {name: row.values[label] for row in renamed for name in (row.slide, row.slide_id)}
    for split in study.splits:
        written += _write_split(folder / "splits", split, labels)
    return written


def split_files(path: Path) -> dict[int, Path]:
    """Give the split files of a folder (or the one file) by the number in their names."""
    if not path.is_dir():
        found = _NAME.match(path.name)
        return {int(found[1]) if found else 0: path}
    names = [(m, p) for p in sorted(path.iterdir()) if (m := _NAME.match(p.name)) is not None]
    # a bool file comes first in this order, so that the list of ids replaces it
    ordered = sorted(names, key=lambda item: (int(item[0][1]), item[0][2] is None))
    return {int(m[1]): p for m, p in ordered}


def is_split_table(columns: Sequence[str]) -> bool:
    """Say whether a table has one column a side, as ``splits_i.csv`` has."""
    names = {c.casefold() for c in columns}
    return "train" in names and bool(names & {"val", "test"}) and names <= {*SIDES, "", "index"}


def read_split_rows(path: Path) -> Iterator[SplitRow]:
    """Read a split file or a folder of them, a row an id.

    Raises
    ------
    DataError
        K13 no such files, or others than wanted; O16 no table.
    """
    files = split_files(path)
    if not files:
        what = "holds no splits_0.csv, splits_1.csv ..."
        raise DataError.of("K13", str(path), what, "give the folder of one task's splits")
    for index, file in sorted(files.items()):
        yield from _read_file(file, index)


def _read_file(path: Path, index: int) -> Iterator[SplitRow]:
    table = read_table(path)
    if not is_split_table(table.columns):
        what = f"got columns {', '.join(table.columns[:6])}, wanted train, val and test"
        raise DataError.of("K13", str(path), what, "give splits_i.csv as CLAM writes them")
    sides = {c.casefold(): c for c in table.columns if c.casefold() in SIDES}
    if "test" not in sides:
        sides = {"train": sides["train"], "test": sides["val"]}
    cells = {side: table.column(column) for side, column in sides.items()}
    if _is_bool(table, cells):
        yield from _bool_rows(path, index, table, cells)
        return
    for side, names in cells.items():
        for line, name in zip(table.lines, names, strict=True):
            if name:
                yield SplitRow(path, line, 0, index, name, side, by_slide=None)


def _is_bool(table: TextTable, cells: dict[str, list[str]]) -> bool:
    first = table.columns[0].casefold()
    words = {c.casefold() for names in cells.values() for c in names}
    return first in ("", "index") and words <= {"true", "false"}


def _bool_rows(
    path: Path, index: int, table: TextTable, cells: dict[str, list[str]]
) -> Iterator[SplitRow]:
    problems = Problems()
    for i, name in enumerate(table.column(table.columns[0])):
        on = [side for side, flags in cells.items() if flags[i].casefold() == "true"]
        if len(on) > 1:
            what = f"{name} stands on {len(on)} sides"
            row, where = table.lines[i], str(path)
            problems.add(Problem(code="K13", where=where, what=what, remedy="one side", row=row))
        elif on:
            yield SplitRow(path, table.lines[i], 0, index, name, on[0], by_slide=None)
    problems.refuse(DataError)


def _write_split(folder: Path, split: GivenSplit, labels: dict[str, str]) -> list[Path]:
    sides = {side: getattr(split, side) for side in SIDES}
    longest = max(map(len, sides.values()), default=0)
    lists = [
        [str(i), *(names[i] if i < len(names) else "" for names in sides.values())]
        for i in range(longest)
    ]
    flags = [[name, *(str(side == own) for side in SIDES)] for own in SIDES for name in sides[own]]
    counts = {
        side: Counter(labels.get(n, "unknown") for n in names) for side, names in sides.items()
    }
    words = sorted({w for c in counts.values() for w in c})
    numbers = [[word, *(str(counts[side][word]) for side in SIDES)] for word in words]
    stem = f"splits_{split.index}"
    return [
        write_table(folder / f"{stem}.csv", ["", *SIDES], lists),
        write_table(folder / f"{stem}_bool.csv", ["", *SIDES], flags),
        write_table(folder / f"{stem}_descriptor.csv", ["", *SIDES], numbers),
    ]
