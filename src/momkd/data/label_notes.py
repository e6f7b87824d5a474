"""What must be said wherever a label is used: that it was computed, from expression or a score.

A research score computed from expression (Oncotype DX and its like) is partly known to a teacher
that sees expression: its figures say less than those of a label measured otherwise.
"""

import re
from collections.abc import Sequence

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
    labelled = [
        (row, s.label) for row, s in zip(table.rows, stated, strict=True) if s.label is not None
    ]
    found = []
    for place, name in enumerate(table.columns):
        # most columns of a table of genes fall at the first rows
        if name == column or not _is_parted(_pairs(labelled[:_ENOUGH_CASES], place)):
            continue
        pairs = _pairs(labelled, place)
        many = len(pairs) >= _ENOUGH_CASES and len({value for value, _ in pairs}) > _MANY_VALUES
        ones = [value for value, label in pairs if label == 1]
        zeros = [value for value, label in pairs if label == 0]
        if many and ones and zeros and _is_parted(pairs):
            found.append(
                f"{column} is a threshold of column {name!r}, at {max(min(ones), min(zeros)):g}: "
                "what that score was computed from says more than any model could"
            )
    return tuple(found)


def _pairs(labelled: Sequence[tuple[Sequence[str], int]], place: int) -> list[tuple[float, int]]:
    """Give the numbers of a column with their labels."""
    numbers = ((as_number(row[place].strip()), label) for row, label in labelled)
    return [(value, label) for value, label in numbers if value is not None]


def _is_parted(pairs: Sequence[tuple[float, int]]) -> bool:
    """Say whether one cut parts the classes; one class alone is parted from nothing yet."""
    ones = [value for value, label in pairs if label == 1]
    zeros = [value for value, label in pairs if label == 0]
    return not ones or not zeros or min(ones) > max(zeros) or max(ones) < min(zeros)
