"""Cells of text become numbers, row by row; those that do not are counted, the first is shown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from momkd.data.delimited import is_blank
from momkd.errors import Problem

_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", re.A)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class _BadCells:
    """What could not be read as a number: how many, in which genes, and where the first stands."""

    n: int = 0
    genes: set[str] = field(default_factory=set)
    line: int = 0
    column: str = ""
    cell: str = ""


@dataclass(slots=True)
class NumberReader:
    """Turns rows of cells into numbers and remembers the cells that are none."""

    path: Path
    missing: _BadCells = field(default_factory=_BadCells)
    unreadable: _BadCells = field(default_factory=_BadCells)

    def read(
        self, line: int, cells: Sequence[str], genes: Sequence[str], columns: Sequence[str]
    ) -> Float32[np.ndarray, " n_cells"]:
        """Give one row, NaN where a cell is bad; ``genes`` and ``columns`` name its cells."""
        numbers = _numbers(cells)
        for j in np.flatnonzero(np.isnan(numbers)).tolist():
            bad = self.missing if is_blank(cells[j]) else self.unreadable
            if not bad.n:
                bad.line, bad.column, bad.cell = line, columns[j], cells[j]
            bad.n += 1
            bad.genes.add(genes[j])
        return numbers

    def problems(self) -> list[Problem]:
        """Tell O17 and O06, each with its first place."""
        found: list[Problem] = []
        bad = self.unreadable
        if bad.n:
            comma = re.match(r"^-?[\d.]+,\d+$", bad.cell.strip())
            what = f"{bad.n} cells are no plain numbers (first: {bad.cell!r})"
            wanted = "a decimal point and no other sign" if comma else "a number"
            found.append(
                Problem(
                    code="O17",
                    where=str(self.path),
                    what=what,
                    remedy=f"wanted {wanted}: mend it",
                    row=bad.line,
                    column=bad.column,
                    value=bad.cell,
                )
            )
        bad = self.missing
        if bad.n:
            found.append(
                Problem(
                    code="O06",
                    where=str(self.path),
                    what=f"{bad.n} values are missing in {len(bad.genes)} genes, the first here",
                    remedy="remove these genes or cases; nothing is imputed across folds",
                    row=bad.line,
                    column=bad.column,
                )
            )
        return found


def is_number(text: str) -> bool:
    """Say whether text is a plain number: ASCII digits, a point, an exponent."""
    return _NUMBER.match(text) is not None


def _numbers(cells: Sequence[str]) -> Float32[np.ndarray, " n_cells"]:
    """Convert one row; NaN where a cell is missing, no plain number, or out of range."""
    text = "".join(cells)
    if not text.isascii() or "_" in text:  # float() takes other scripts' digits and 1_000
        return _numbers_one_by_one(cells)
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return _numbers_one_by_one(cells)
    if not np.abs(values).max() < _LARGEST:  # so it is with a NaN among them
        return _numbers_one_by_one(cells)
    if "e" in text or "E" in text:  # a zero may have been 1e-400
        for j in np.flatnonzero(values == 0).tolist():
            values[j] = _number(cells[j])
    return values.astype(np.float32)


def _numbers_one_by_one(cells: Sequence[str]) -> Float32[np.ndarray, " n_cells"]:
    return np.fromiter(map(_number, cells), np.float32, len(cells))


def _number(cell: str) -> float:
    text = cell.strip()
    if _NUMBER.match(text) is None:
        return np.nan
    value = float(text)
    underflow = value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]) is not None
    return np.nan if underflow or abs(value) >= _LARGEST else value
