"""Patho-Bench: ``k=all.tsv`` with labels and one column a fold, and ``config.yaml`` beside it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from momkd.config import read_yaml
from momkd.data.conventions.study import (
    SIDES,
    SplitRow,
    StudyTables,
    gather,
    read_rows,
    require_columns,
    write_slide_rows,
)
from momkd.data.delimited import CASE_COLUMNS, SLIDE_COLUMNS, find_column, is_blank, read_table
from momkd.errors import ConfigError, DataError, Problem, Problems
from momkd.storage import write_text

_FOLD = re.compile(r"^fold_(\d+)$", re.I)


def fold_columns(columns: Sequence[str]) -> dict[str, int]:
    """Give the columns of folds with their numbers."""
    return {c: int(m[1]) for c in columns if (m := _FOLD.match(c)) is not None}


def read_task(tsv: Path) -> dict[str, Any]:
    """Read ``config.yaml`` beside a ``k=all.tsv``; empty where there is none."""
    path = tsv.with_name("config.yaml")
    return read_yaml(path) if path.exists() else {}


def find_task_column(tsv: Path) -> str:
    """Give the label column: ``task_col`` of ``config.yaml``, else the only one that can be it.

    Raises
    ------
    ConfigError
        G15 it cannot be told, or the table has no such column.
    DataError
        O16 no table.
    """
    columns = read_table(tsv).columns
    named = read_task(tsv).get("task_col")
    if named is not None:
        found = find_column(columns, (str(named),))
        if found is None:
            what = f"config.yaml names task_col {named!r}, the table has no such column"
            raise ConfigError.of("G15", str(tsv), what, "pass --target")
        return found
    ids = {find_column(columns, CASE_COLUMNS), find_column(columns, SLIDE_COLUMNS)}
    rest = [c for c in columns if c not in ids and c not in fold_columns(columns)]
    if len(rest) != 1:
        what = f"cannot tell the task among {', '.join(rest[:6]) or 'no column'}"
        raise ConfigError.of("G15", str(tsv), what, "pass --target")
    return rest[0]


def read_patho_bench(tsv: Path, *, task: str | None = None) -> StudyTables:
    """Read a ``k=all.tsv``: cases, slides, labels, further columns, folds.

    Raises
    ------
    ConfigError
        G15 the label column cannot be told.
    DataError
        L07 a column is absent, O16 no table, K13 a fold says something else than a side.
    """
    table = read_table(tsv)
    label = task if task is not None else find_task_column(tsv)
    used = require_columns(table, case=CASE_COLUMNS, slide=SLIDE_COLUMNS, label=(label,))
    folds = fold_columns(table.columns)
    rows = [
        replace(row, values={c: v for c, v in row.values.items() if c not in folds})
        for row in read_rows(table, used["case"], used["slide"])
    ]
    slides = {line: row.slide for line, row in zip(table.lines, rows, strict=True)}
    given = [r._replace(name=slides[r.line]) for r in read_split_rows(tsv)]
    return StudyTables(label=used["label"], rows=tuple(rows), splits=gather(given))


def write_patho_bench(
    study: StudyTables, folder: Path, *, class_names: Sequence[str] = ()
) -> list[Path]:
    """Write ``k=all.tsv`` and ``config.yaml``.

    Parameters
    ----------
    study
        Its splits name slides.
    class_names
        Written as ``label_dict``, in the order of the codes 0, 1; the label column then holds
        these codes.
    """
    codes = {name: str(i) for i, name in enumerate(class_names)}
    sides = [
        {name: side for side in SIDES for name in getattr(split, side)} for split in study.splits
    ]
    rows = []
    for row in study.rows:
        folds = {f"fold_{s.index}": sides[i].get(row.slide, "") for i, s in enumerate(study.splits)}
        label = row.values[study.label]
        coded = {study.label: codes.get(label, label)}
        rows.append(replace(row, values={**row.values, **coded, **folds}))
    table = replace(study, rows=tuple(rows))
    written = write_slide_rows(folder / "k=all.tsv", table, "case_id", "slide_id", "\t")
    content: dict[str, Any] = {
        "task_col": study.label,
        "extra_cols": [c for c in study.columns if c != study.label],
        "task_type": "classification",
        "metrics": ["macro-ovr-auc"],
        "sample_col": "case_id",
    }
    if class_names:
        content["label_dict"] = dict(enumerate(class_names))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_text(folder / "config.yaml", text)
    return [written, folder / "config.yaml"]


def read_split_rows(path: Path) -> Iterator[SplitRow]:
    """Give the folds as rows of cases; a blank cell leaves its row out of that fold.

    Raises
    ------
    DataError
        K13 a cell that is no side, L07 no case column, O16 no table.
    """
    table = read_table(path)
    case = require_columns(table, case=CASE_COLUMNS)["case"]
    by_slide = find_column(table.columns, SLIDE_COLUMNS) is not None
    cases = table.column(case)
    problems = Problems()
    found: list[SplitRow] = []
    for column, fold in sorted(fold_columns(table.columns).items(), key=lambda item: item[1]):
        for i, cell in enumerate(table.column(column)):
            side, line = cell.casefold(), table.lines[i]
            if side in SIDES:
                found.append(SplitRow(path, line, 0, fold, cases[i], side, by_slide=by_slide))
            elif not is_blank(cell):
                what, remedy = f"got {cell!r}, wanted train, val or test", "or leave it blank"
                where = str(path)
                problems.add(
                    Problem(
                        code="K13", where=where, what=what, remedy=remedy, row=line, column=column
                    )
                )
    problems.refuse(DataError)
    yield from found
