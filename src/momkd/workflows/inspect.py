"""``momkd inspect``: which convention a file follows, why, and what is in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from momkd.data.expression import read_expression
from momkd.data.features import FileDescription, describe_file
from momkd.data.layouts.material import ReadRules
from momkd.errors import MomkdError, Problem
from momkd.types import Expression

_TABLES = (".csv", ".tsv", ".txt", ".gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDescription:
    """An RNA table and what was recognised in it."""

    path: Path
    expression: Expression
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Give the file's name and what was recognised, a line each."""
        return [self.path.name, *self.notes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was learnt of the files that can be read, and why the others cannot."""

    found: tuple[FileDescription | TableDescription, ...]
    problems: tuple[Problem, ...]


def inspect(
    files: Sequence[Path | str],
    *,
    feature_key: str | None = None,
    coords: Path | str | None = None,
    mpp: float | None = None,
) -> Inspection:
    """Describe feature files and RNA tables.

    Parameters
    ----------
    feature_key
        Dataset (or table) of the embeddings, instead of the layout's own.
    coords
        Folder of the files of tile corners, where features lie apart from them.
    mpp
        Micrometres per level-0 pixel, to place corners that are in micrometres.
    """
    folder = None if coords is None else Path(coords)
    rules = ReadRules(feature_key=feature_key, coords_dir=folder, mpp0=mpp)
    found: list[FileDescription | TableDescription] = []
    problems: list[Problem] = []
    for path in map(Path, files):
        try:
            if path.suffix.lower() in _TABLES:
                expression, notes = read_expression(path)
                table = TableDescription(path=path, expression=expression, notes=tuple(notes))
                found.append(table)
            else:
                found.append(describe_file(path, rules))
        except MomkdError as error:
            problems += error.problems
    return Inspection(found=tuple(found), problems=tuple(problems))
