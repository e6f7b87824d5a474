"""``momkd init``: a short momkd.yaml from folders and tables, formats recognised."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from momkd.data.clinical import list_values
from momkd.data.features import find_feature_files
from momkd.errors import ConfigError, DataError
from momkd.storage import write_text
from momkd.workflows.console import say

_POSITIVE = ("positive", "pos", "1", "true", "yes", "high", "mutated", "mut")
_NEGATIVE = ("negative", "neg", "0", "false", "no", "low", "wildtype", "wt")


def init(
    *,
    features: Sequence[Path | str],
    clinical: Path | str,
    target: str,
    rna: Path | str | None = None,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    output: Path | str = "momkd.yaml",
    force: bool = False,
) -> Path:
    """Write a configuration that names the data, the target and what its values mean.

    Values of the target column that are neither positive nor negative are listed under
    ``exclude``: they are unknown, never negative.

    Raises
    ------
    ConfigError
        G08 the file exists; G09 the values of the target are not self-evident.
    DataError
        A folder without feature files (P09), a table that cannot be read, L07 no such column.
    """
    path = Path(output)
    if path.exists() and not force:
        raise ConfigError.of("G08", str(path), "exists already", "pass --force or another -o")
    roots = [Path(f) for f in features]
    found = find_feature_files(roots)
    if found.problems:
        raise DataError(*found.problems)
    if not found.files:
        where = ", ".join(str(r) for r in roots)
        what = "holds no feature file (.h5, .pt, .npy, .zarr, .pack)"
        raise DataError.of("P09", where, what, "check --features")
    for note in (*found.notes, *(f"left out: {p.line()}" for p in found.skipped)):
        say(note)
    column, counts = list_values(Path(clinical), target)
    yes, no = _sides(column, counts, positive, negative)
    exclude = [v for v in counts if v not in (*yes, *no)]
    folder = path.resolve().parent
    data: dict[str, Any] = {
        "features": [_relative(r, folder) for r in roots],
        "clinical": _relative(Path(clinical), folder),
    }
    if len(roots) == 1:
        data["features"] = data["features"][0]
    if rna is not None:
        if not Path(rna).exists():
            raise DataError.of("O25", str(rna), "no such file", "check --rna")
        data["rna"] = _relative(Path(rna), folder)
    data["target"] = {"column": column, "positive": _one(yes), "negative": _one(no)}
    if exclude:
        data["target"]["exclude"] = exclude
    content = {"data": data, "model": {"name": "momkd" if rna is not None else "abmil"}}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_text(
        path, f"# What is not written here has its default; see docs/configuration.md.\n{text}"
    )
    shown = ", ".join(f"{v} ({n})" for v, n in counts.items())
    say(f"{path}: {len(found.files)} feature files, target {column}: {shown}")
    return path


def _sides(
    column: str, counts: dict[str, int], positive: Sequence[str], negative: Sequence[str]
) -> tuple[list[str], list[str]]:
    yes = list(positive) or [v for v in counts if v.casefold() in _POSITIVE]
    no = list(negative) or [v for v in counts if v.casefold() in _NEGATIVE]
    if not yes or not no:
        seen = ", ".join(f"{v} ({n})" for v, n in list(counts.items())[:12])
        what = f"cannot tell which values are positive and which negative: {seen}"
        raise ConfigError.of("G09", column, what, "pass --positive VALUE and --negative VALUE")
    return yes, no


def _one(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder)
