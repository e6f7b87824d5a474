"""What must be said wherever a label is used: that it was computed, from expression or a score.

A research score computed from expression (Oncotype DX and its like) is partly known to a teacher
that sees expression: its figures say less than those of a label measured otherwise.
"""

import re
from collections.abc import Sequence

import numpy as np

from momkd.data.delimited import TextTable
from momkd.data.target import Stated, TargetOptions, as_number

_FROM_EXPRESSION = {
    **dict.fromkeys(("odx", "oncotype", "oncotypedx", "odxh"), "the Oncotype DX research score"),
    **dict.fromkeys(("pam", "prosigna", "intrinsic"), "the PAM50 classifier"),
    "mammaprint": "the MammaPrint signature",
    "endopredict": "the EndoPredict signature",
}
_MANY_VALUES = 10
_ENOUGH_CASES = 20


def target_notes(target: TargetOptions) -> tuple[str, ...]:
    """Give the notes that go with a target: the configured one, else one known by its name."""
    if target.note is not None:
        return (f"{target.column}: {target.note}",)
    words = re.findall("[a-z]+", target.column.casefold())
    found = next((_FROM_EXPRESSION[w] for w in words if w in _FROM_EXPRESSION), None)
    if found is None:
        return ()
    return (
        f"{target.column} is taken for {found}, which is computed from expression: a teacher that "
        "sees RNA is partly circular on it",
    )


def threshold_notes(table: TextTable, column: str, stated: Sequence[Stated]) -> tuple[str, ...]:
    """Say which columns of numbers the label is a threshold of.

    Told of columns with more than 10 values over at least 20 labelled cases, where one cut parts
    the classes without an exception.
    """
    labels = [s.label for s in stated]
    found = []
    for name in dict.fromkeys(table.columns):
        if name == column:
            continue
        numbers = [as_number(cell) for cell in table.column(name)]
        pairs = [(a, b) for a, b in zip(numbers, labels, strict=True) if None not in (a, b)]
        values, truth = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        if len(pairs) < _ENOUGH_CASES or len(np.unique(values)) <= _MANY_VALUES:
            continue
        ones, zeros = values[truth == 1], values[truth == 0]
        if len(ones) and len(zeros) and (ones.min() > zeros.max() or ones.max() < zeros.min()):
            cut = f"{max(min(ones), min(zeros)):g}"
            found.append(
                f"{column} is a threshold of column {name!r}, at {cut}: what that score was "
                "computed from says more than any model could"
            )
    return tuple(found)
