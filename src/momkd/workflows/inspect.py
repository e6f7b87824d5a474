"""``momkd inspect``: which convention a file follows, why, and what is in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from momkd.data.expression import RnaReading, read_expression
from momkd.data.features import FileDescription, describe_file
from momkd.data.layouts.material import ReadRules
from momkd.data.rna.options import RnaOptions
from momkd.errors import MomkdError, Problem

_STORES = (".zarr", ".pack")
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
            if _is_rna(path):
                # nothing is used of it: what repeats or misses is described, not refused
                options = RnaOptions(duplicate_genes="mean", impute="train_median")
                found.append(TableDescription(path=path, reading=read_expression(path, options)))
            else:
                found.append(describe_file(path, rules))
        except MomkdError as error:
            problems += error.problems
    return Inspection(found=tuple(found), problems=tuple(problems))


def _is_rna(path: Path) -> bool:
    """Say whether it is a table, or a folder that is no store of features."""
    suffix = path.suffix.lower()
    return suffix in _TABLES or (path.is_dir() and suffix not in _STORES)
