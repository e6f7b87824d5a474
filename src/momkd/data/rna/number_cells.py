"""Cells of text become numbers, row by row; those that do not are counted, the first is shown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

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
        self, line: int, cells: Sequence[str], genes: Sequence[str] | str, columns: Sequence[str]
    ) -> Float32[np.ndarray, " n_cells"]:
        """Give one row, NaN where a cell is bad; ``columns`` name its cells, ``genes`` its genes.

        ``genes`` is a single name where the row is about one gene.
        """
        numbers = _numbers(cells)
        for j in np.flatnonzero(np.isnan(numbers)).tolist():
            bad = self.missing if is_blank(cells[j]) else self.unreadable
            if not bad.n:
                bad.line, bad.column, bad.cell = line, columns[j], cells[j]
            bad.n += 1
            bad.genes.add(genes if isinstance(genes, str) else genes[j])
        return numbers

    def problems(self, impute: str = "refuse") -> list[Problem]:
        """Tell O17 and, unless they are imputed, O06, each with its first place."""
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
        if bad.n and impute == "refuse":
            found.append(
                Problem(
                    code="O06",
                    where=str(self.path),
                    what=f"{bad.n} values are missing in {len(bad.genes)} genes, the first here",
                    remedy="remove these genes or cases, or set data.impute: train_median",
                    row=bad.line,
                    column=bad.column,
                )
            )
        return found


def quick_numbers(
    content: bytes, delimiter: bytes, n_cells: int
) -> Float32[np.ndarray, " n"] | None:
    """Read many cells at once; None where any needs a closer look, or their number is another."""
    text = np.frombuffer(content + delimiter, np.uint8)
    ends = np.flatnonzero(text == delimiter[0])
    if len(ends) != n_cells:
        return None
    return numbers_between(text, np.concatenate([[0], ends[:-1] + 1]), ends)


def numbers_between(
    text: UInt8[np.ndarray, " n_bytes"],
    starts: Int64[np.ndarray, " n"],
    ends: Int64[np.ndarray, " n"],
) -> Float32[np.ndarray, " n"] | None:
    """Read the cells between these bytes of a text; None where any needs a closer look.

    The answer is that of :meth:`NumberReader.read`. Up to 15 digits are an integer, exact as a
    double, over a power of ten, exact too: their quotient is the double nearest to the decimal
    number. Longer numbers and those with an exponent are converted one by one.
    """
    first = text[np.minimum(starts, len(text) - 1)]
    signed = (first == _MINUS) | (first == _PLUS)
    digits, odd = _decimal(text, starts + signed, ends)
    values = np.where(first == _MINUS, -digits, digits)
    for i in np.flatnonzero(odd).tolist():
        values[i] = _number(text[starts[i] : ends[i]].tobytes().decode("latin-1"))
    return None if np.isnan(values).any() else values.astype(np.float32)


_MINUS, _PLUS, _POINT, _ZERO = (ord(c) for c in "-+.0")
_MOST_DIGITS = 15
_POWERS = 10.0 ** np.arange(_MOST_DIGITS + 1)


def _decimal(
    text: UInt8[np.ndarray, " n_bytes"],
    starts: Int64[np.ndarray, " n"],
    ends: Int64[np.ndarray, " n"],
) -> tuple[Float64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Give what unsigned decimal numbers stand for, and which cells are not that simple."""
    length = ends - starts
    odd = (length < 1) | (length > _MOST_DIGITS + 1)
    whole = np.zeros(len(starts), dtype=np.int64)
    point = np.full(len(starts), -1)
    for j in range(int(length[~odd].max(initial=0))):
        inside = (length > j) & ~odd
        byte = text[np.minimum(starts + j, len(text) - 1)]
        is_digit = inside & (byte - np.uint8(_ZERO) < 10)
        is_point = inside & (byte == _POINT)
        whole = np.where(is_digit, whole * 10 + (byte - np.uint8(_ZERO)), whole)
        odd |= (inside & ~is_digit & ~is_point) | (is_point & (point >= 0))
        point[is_point] = j
    n_digits = length - (point >= 0)
    odd |= (n_digits < 1) | (n_digits > _MOST_DIGITS)
    decimals = np.where((point >= 0) & ~odd, length - 1 - point, 0)
    return whole / _POWERS[decimals], odd


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
