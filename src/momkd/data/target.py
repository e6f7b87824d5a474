"""The label: which values of a column mean positive, negative, or unknown; nothing is assumed."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from momkd.config import Options
from momkd.data.delimited import TextTable, is_blank
from momkd.errors import Problem

_SURVIVAL = ("survival", "days_to", "os_time", "pfs", "_time", "months", "futime")
_EVENTS = ("censorship", "censored", "censor", "event", "vital_status", "death")
_EVENT_OF = ("os", "pfs", "dfs", "dss", "rfs", "pfi", "dfi")
_PREDICTION = ("pred", "prob", "logit", "y_hat", "yhat")
_SCORE_OF = re.compile(r"^p_.|^p\d$|_p$", re.I)
_MANY_VALUES = 10
_SAME = 0.999


class TargetOptions(Options):
    """What the label column is called and what its values mean.

    Compared as text, trimmed, whatever the case; 1, 1.0 and true are one value. A blank cell is
    unknown. Any other value must stand under ``exclude``, where it is unknown too. ``note`` is said
    wherever the label is used.
    """

    column: str
    positive: list[str] = Field(min_length=1)
    negative: list[str] = Field(min_length=1)
    exclude: list[str] = Field(default_factory=list)
    note: str | None = None

    @field_validator("positive", "negative", "exclude", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        return [str(v) for v in values if v is not None]

    @property
    def class_names(self) -> tuple[str, str]:
        """Words for the classes: the values themselves, unless they are mere codes."""
        names = self.negative[0], self.positive[0]
        if {normalise(n) for n in names} <= {"0", "1"}:
            return "negative", "positive"
        return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What one cell says of the label.

    ``words`` name the statement, empty for a blank cell; ``label`` is None for what is unknown,
    with the reason in ``why_unknown``.
    """

    words: str = ""
    label: int | None = None
    why_unknown: str | None = None


def normalise(value: str) -> str:
    """Bring equal statements to one form: ``Positive `` -> ``positive``, ``1.0`` -> ``1``."""
    text = value.strip().casefold()
    if text in ("true", "false"):
        return str(int(text == "true"))
    number = as_number(text)
    return str(int(number)) if number is not None and number.is_integer() else text


def count_values(cells: Sequence[str]) -> dict[str, int]:
    """Count the values that a column states, in the order of their normalised form."""
    shown: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for cell in cells:
        if not is_blank(cell):
            key = normalise(cell)
            shown.setdefault(key, cell if as_number(key) is None else key)
            counts[key] += 1
    return {shown[key]: n for key, n in sorted(counts.items())}


def read_labels(
    table: TextTable, column: str, target: TargetOptions
) -> tuple[list[Stated], list[Problem]]:
    """Say what each row of ``column`` states, and all that is wrong with the column.

    Returns
    -------
    tuple
        One statement a row, and problems: L01 unmapped values, L02 a value on two sides, L10 a side
        that never occurs, L13 a time, a measurement or the event that ends a survival time, L14 a
        prediction that equals the label.
    """
    where = f"{table.path} column {column}"
    problems = [*_overlaps(where, target), *_events(table, column)]
    negative, positive, excluded = (
        {normalise(v) for v in values}
        for values in (target.negative, target.positive, target.exclude)
    )
    stated: list[Stated] = []
    strange: Counter[str] = Counter()
    for cell in table.column(column):
        value = normalise(cell)
        if value in negative or value in positive:
            label = int(value in positive)
            stated.append(Stated(words=("negative", "positive")[label], label=label))
        elif value in excluded:
            why = f"{column} is {cell!r}, which is excluded"
            stated.append(Stated(words="excluded", why_unknown=why))
        elif is_blank(cell):
            stated.append(Stated(why_unknown=f"{column} is blank"))
        else:
            strange[cell] += 1
            stated.append(Stated())
    measured = _looks_measured(column, strange)
    if strange:
        problems.append(_unmapped(where, strange, measured))
    for side, word, values in ((1, "positive", target.positive), (0, "negative", target.negative)):
        if not measured and all(s.label != side for s in stated):
            what = f"the {word} value ({', '.join(values)}) never occurs: one class only"
            remedy = f"mend data.target.{word}"
            problems.append(Problem(code="L10", where=where, what=what, remedy=remedy))
    problems += _predictions(table, column, [s.label for s in stated])
    return stated, problems


def _overlaps(where: str, target: TargetOptions) -> list[Problem]:
    sides = {"positive": target.positive, "negative": target.negative, "exclude": target.exclude}
    owners: dict[str, list[str]] = {}
    for side, values in sides.items():
        for value in sorted({normalise(v) for v in values}):
            owners.setdefault(value, []).append(side)
    return [
        Problem(
            code="L02",
            where=where,
            what=f"{value!r} is given as {' and as '.join(given)}",
            remedy="mend data.target: a value has one meaning",
        )
        for value, given in owners.items()
        if len(given) > 1
    ]


def _looks_measured(column: str, strange: Counter[str]) -> bool:
    """Say whether unmapped values are a time or a measurement rather than classes."""
    numbers = bool(strange) and all(as_number(v) is not None for v in strange)
    named = any(word in column.casefold() for word in _SURVIVAL)
    return numbers and (named or len(strange) > _MANY_VALUES)


def _unmapped(where: str, strange: Counter[str], measured: bool) -> Problem:
    shown = ", ".join(f"{v!r} ({n})" for v, n in strange.most_common(5))
    if measured:
        what = f"{len(strange)} distinct values: a time or a measurement, not a class ({shown})"
        return Problem(code="L13", where=where, what=what, remedy="give a column of classes")
    what = f"{sum(strange.values())} cells are neither positive nor negative: {shown}"
    remedy = "add them to data.target.exclude (unknown), or to positive or negative"
    return Problem(code="L01", where=where, what=what, remedy=remedy)


def _events(table: TextTable, column: str) -> list[Problem]:
    """Tell the event of a survival time passed as label: who was not followed has none (L13)."""
    name = column.casefold()
    stem = name.removesuffix("_status").removesuffix("_event")
    times = [
        c
        for c in table.columns
        if c.casefold() != name and any(word in c.casefold() for word in _SURVIVAL)
    ]
    if not times or not (name in _EVENTS or stem in _EVENT_OF):
        return []
    what = f"is the event of a survival time (beside {times[0]!r}), not a class"
    remedy = "censored cases have no class: give a column of classes"
    where = f"{table.path} column {column}"
    return [Problem(code="L13", where=where, what=what, remedy=remedy)]


def _is_prediction(name: str) -> bool:
    text = name.casefold()
    return any(word in text for word in _PREDICTION) or _SCORE_OF.search(text) is not None


def _predictions(table: TextTable, column: str, labels: Sequence[int | None]) -> list[Problem]:
    """Tell columns of predictions from which the label may have been made (L14)."""
    found: list[Problem] = []
    for name in dict.fromkeys(table.columns):
        if name == column or not _is_prediction(name):
            continue
        numbers = [as_number(cell) for cell in table.column(name)]
        pairs = [(a, b) for a, b in zip(numbers, labels, strict=True) if None not in (a, b)]
        scores, truth = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        if len(pairs) < 3 or scores.std() == 0 or truth.std() == 0:
            continue
        r = float(np.corrcoef(scores, truth)[0, 1])
        if abs(r) > _SAME:
            what = f"equals column {name!r}, which is named as a prediction (r = {r:.4f})"
            where = f"{table.path} column {column}"
            remedy = "give the measured label, or remove the column if it is no prediction"
            found.append(Problem(code="L14", where=where, what=what, remedy=remedy))
    return found


def as_number(text: str) -> float | None:
    """Read a finite number; None for anything else."""
    if "_" in text:  # float() takes 1_0
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
