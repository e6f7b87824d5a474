"""``momkd inspect``: which convention a file follows, why, and what is in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from momkd.data.expression import RnaReading, read_expression
from momkd.data.features import FileDescription, describe_file
from momkd.data.rna.options import RnaOptions
from momkd.errors import MomkdError, Problem

_TABLES = (".csv", ".tsv", ".txt", ".gz", ".h5ad", ".h5mu")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDescription:
    """An RNA table and what was recognised in it."""

    path: Path
    reading: RnaReading

    def lines(self) -> list[str]:
        """Give the file's name and what was recognised, a line each."""
        types = ", ".join(f"{n} {t}" for t, n in self.reading.sample_types.items())
        return [self.path.name, *self.reading.notes, f"RNA: samples by type: {types}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was learnt of the files that can be read, and why the others cannot."""

    found: tuple[FileDescription | TableDescription, ...]
    problems: tuple[Problem, ...]


def inspect(files: Sequence[Path | str]) -> Inspection:
    """Describe feature files and RNA tables."""
    found: list[FileDescription | TableDescription] = []
    problems: list[Problem] = []
    for path in map(Path, files):
        try:
            is_folder = path.is_dir() and path.suffix.lower() != ".zarr"
            if is_folder or path.suffix.lower() in _TABLES:
                # nothing is used of it: what repeats or misses is described, not refused
                options = RnaOptions(duplicate_genes="mean", impute="train_median")
                found.append(TableDescription(path=path, reading=read_expression(path, options)))
            else:
                found.append(describe_file(path))
        except MomkdError as error:
            problems += error.problems
    return Inspection(found=tuple(found), problems=tuple(problems))
