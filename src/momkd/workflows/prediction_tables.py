"""Tables of predictions made elsewhere, read strictly: nothing guessed, nothing dropped."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from momkd.data.delimited import TextTable, is_blank, read_table
from momkd.errors import DataError, Problem, Problems

_TEXT = ("case_id", "slide_id", "model", "split")
_COUNTS = ("seed", "fold")
_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


def read_prediction_table(path: Path, *, any_score: bool = False) -> pd.DataFrame:
    """Read ``case_id, y_true, prob_<class>...`` and, where there are, the columns beside them.

    Parameters
    ----------
    path
        CSV or TSV with ``y_true`` 0 or 1 and one or two columns ``prob_<class>``; of two, the
        second is of class 1. ``model`` (default: the file's name), ``seed``, ``fold`` (0),
        ``threshold`` (0.5), ``slide_id`` and ``split`` may be absent.
    any_score
        Let a score be any finite number, where ranks are all that is needed.

    Returns
    -------
    pandas.DataFrame
        With two ``prob_`` columns, the second of class 1.

    Raises
    ------
    DataError
        O16 no table; P17 columns missing, a cell that is blank or no such number, a case listed
        twice, of two labels or in two folds of one seed; all that were found.
    """
    table = read_table(path)
    probabilities = [c for c in table.columns if c.startswith("prob_")]
    if not {"case_id", "y_true"} <= set(table.columns) or len(probabilities) not in (1, 2):
        what = "wanted columns case_id, y_true and one or two prob_<class>"
        raise DataError.of("P17", str(path), f"{what}, got {', '.join(table.columns)}")
    problems = Problems()
    columns: dict[str, list[str] | list[float] | list[int]] = {
        name: table.column(name) for name in _TEXT if name in table.columns
    }
    columns["y_true"] = _labels(table, problems)
    for name in (*_COUNTS, "threshold"):
        if name in table.columns:
            columns[name] = _numbers(table, name, problems)
    bounded = not any_score
    scores = {n: _numbers(table, n, problems, bounded=bounded) for n in probabilities}
    problems.refuse(DataError)
    if len(scores) == 1:
        (positive,) = scores.values()
        scores = {"prob_rest": [1 - p for p in positive], **scores}
    found = pd.DataFrame(columns | scores)
    defaults: dict[str, Any] = {"model": path.stem, "seed": 0, "fold": 0, "threshold": 0.5}
    found = found.assign(**{k: v for k, v in defaults.items() if k not in found.columns})
    found = found.astype(dict.fromkeys(_COUNTS, "int64"))
    _contradictions(path, found).refuse(DataError)
    return found


def _labels(table: TextTable, problems: Problems) -> list[int]:
    cells = table.column("y_true")
    _report(table, "y_true", [c not in _LABELS for c in cells], "0 or 1", problems)
    return [_LABELS.get(cell, 0) for cell in cells]


def _numbers(
    table: TextTable, name: str, problems: Problems, *, bounded: bool = False
) -> list[float]:
    found = [_number(cell) for cell in table.column(name)]
    _report(table, name, [not math.isfinite(v) for v in found], "a number", problems)
    if bounded:
        wanted = "a probability, 0 to 1 (a bare score has ranks only: momkd compare --metric auroc)"
        _report(table, name, [v < 0 or v > 1 for v in found], wanted, problems)
    if name in _COUNTS:
        _report(table, name, [v == v and v % 1 != 0 for v in found], "a whole number", problems)
    return found


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _report(
    table: TextTable, column: str, wrong: Sequence[bool], wanted: str, problems: Problems
) -> None:
    """Tell the wrong cells of a column as one fault, the first of them with its place."""
    if not any(wrong):
        return
    first = list(wrong).index(True)
    cell = table.column(column)[first]
    got = "a blank" if is_blank(cell) else repr(cell)
    more = f" ({sum(wrong)} such cells)" if sum(wrong) > 1 else ""
    remedy = "leave cases without label or prediction out of the table" if is_blank(cell) else ""
    problems.add(
        Problem(
            code="P17",
            where=str(table.path),
            what=f"got {got}, wanted {wanted}{more}",
            remedy=remedy,
            row=table.lines[first],
            column=column,
            value=cell,
        )
    )


def _contradictions(path: Path, found: pd.DataFrame) -> Problems:
    problems = Problems()

    def add(cases: pd.Series, what: str, remedy: str) -> None:
        listed = sorted(set(cases))
        for case in listed[:20]:
            text = f"case {case} {what}"
            problems.add(Problem(code="P17", where=str(path), what=text, remedy=remedy))

    row = [c for c in ("model", "seed", "fold", "case_id", "slide_id", "split") if c in found]
    add(
        found.loc[found.duplicated(row), "case_id"],
        "is listed twice",
        "keep one row, or name the slides in a column slide_id",
    )
    labels = found.groupby("case_id")["y_true"].nunique()
    add(labels[labels > 1].index.to_series(), "has two labels", "correct y_true")
    tested = found[found["split"] == "test"] if "split" in found else found
    folds = tested.groupby(["model", "seed", "case_id"])["fold"].nunique()
    add(
        folds[folds > 1].reset_index()["case_id"],
        "stands in two folds of one seed",
        "number the repeats in a column seed",
    )
    return problems
