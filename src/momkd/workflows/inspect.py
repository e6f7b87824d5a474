"""``momkd inspect``: which convention a file follows, why, and what is in it."""

from collections.abc import Sequence
from pathlib import Path

from momkd.data.expression import read_expression
from momkd.data.features import FileDescription, describe_file
from momkd.errors import DataError, MomkdError, Problem
from momkd.types import Expression

_TABLES = (".csv", ".tsv", ".txt", ".gz")


def inspect(files: Sequence[Path | str]) -> list[FileDescription | tuple[Path, Expression, str]]:
    """Describe feature files and RNA tables; everything readable is described before a refusal.

    Raises
    ------
    DataError
        One problem for each file that cannot be read.
    """
    found: list[FileDescription | tuple[Path, Expression, str]] = []
    problems: list[Problem] = []
    for name in files:
        path = Path(name)
        try:
            if path.suffix.lower() in _TABLES:
                expression, notes = read_expression(path)
                found.append((path, expression, "; ".join(notes)))
            else:
                found.append(describe_file(path))
        except MomkdError as error:
            problems += error.problems
    if problems:
        raise DataErrorAfter(found, *problems)
    return found


class DataErrorAfter(DataError):
    """Some files could not be read; what was learnt of the others travels along."""

    def __init__(
        self,
        found: list[FileDescription | tuple[Path, Expression, str]],
        *problems: Problem,
    ) -> None:
        super().__init__(*problems)
        self.found = found
